# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""Glance's WSGI application, for a database of SQLite and many clients.

SQLite answers "locked" to the second of two transactions that have read and
then want to write, however long they would wait, and Glance passes that on as
HTTP 500.  A transaction that is there to write from its beginning waits
instead: https://www.sqlite.org/lang_transaction.html, "BEGIN IMMEDIATE".

For its rbd store Glance imports Ceph's bindings, which are the distribution's.
"""

import contextlib

import sqlalchemy
import sqlalchemy.event

from nova_snap import distribution

with contextlib.suppress(ImportError):
    distribution.load('rados', 'rbd')


@sqlalchemy.event.listens_for(
    sqlalchemy.Engine, 'before_cursor_execute', retval=True
)
def _begin_immediate(
    connection: object,
    cursor: object,
    statement: str,
    parameters: object,
    context: object,
    executemany: bool,
) -> tuple[str, object]:
    """Make it so for the BEGIN that oslo.db sends."""
    if statement == 'BEGIN':
        statement = 'BEGIN IMMEDIATE'
    return statement, parameters


# Glance opens its database when it is imported.
from glance.wsgi.api import application  # noqa: E402, F401
