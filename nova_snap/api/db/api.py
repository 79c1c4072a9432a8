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

"""The database of the service: one SQLite file, migrated when it is opened.

Open this file for how the database is opened; ``../actions.py`` knows what
is in it.
"""

import contextlib
import os
import pathlib

from alembic import command
from alembic import config as alembic_config
from oslo_db.sqlalchemy import enginefacade
from sqlalchemy import orm

Transaction = contextlib.AbstractContextManager[orm.Session]


class Database:
    """A database in a file.

    :param path: made, readable for its owner only, when it is missing.
    """

    def __init__(self, path: pathlib.Path) -> None:
        # SQLite would make it readable for everybody.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._facade = enginefacade.transaction_context()
        self._facade.configure(connection=f'sqlite:///{path}', sqlite_fk=True)
        self._migrate()

    def reading(self) -> Transaction:
        """Return a transaction that changes nothing."""
        found: Transaction = self._facade.reader.using(_Context())
        return found

    def writing(self) -> Transaction:
        """Return a transaction that is committed at the end of its block."""
        found: Transaction = self._facade.writer.using(_Context())
        return found

    def _migrate(self) -> None:
        """Bring the tables up to date."""
        config = alembic_config.Config()
        config.set_main_option(
            'script_location', 'nova_snap.api.db:migrations'
        )
        with self._facade.writer.get_engine().begin() as connection:
            config.attributes['connection'] = connection
            command.upgrade(config, 'head')


@enginefacade.transaction_context_provider
class _Context:
    """What oslo.db wants of each thread that works with a database."""
