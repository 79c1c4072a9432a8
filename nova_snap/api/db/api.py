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

from collections.abc import Iterator
import contextlib
import os
import pathlib
import threading

from alembic import command
from alembic import config as alembic_config
from oslo_db import exception as db_exception
from oslo_db.sqlalchemy import enginefacade
import sqlalchemy
from sqlalchemy import orm

Transaction = contextlib.AbstractContextManager[orm.Session]

#: Errors of a database that can't be written at the moment: its disk is full,
#: or another program has locked it.
UNWRITABLE = (db_exception.DBError, sqlalchemy.exc.DBAPIError, OSError)


class Database:
    """A database in a file.

    :param path: made, readable for its owner only, when it is missing.
    """

    def __init__(self, path: pathlib.Path) -> None:
        # SQLite would make it readable for everybody.
        flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW
        os.close(os.open(path, flags, 0o600))
        self._lock = threading.Lock()
        self._facade = enginefacade.transaction_context()
        self._facade.configure(connection=f'sqlite:///{path}', sqlite_fk=True)
        self._migrate()

    def reading(self) -> Transaction:
        """Return a transaction that changes nothing."""
        found: Transaction = self._facade.reader.using(_Context())
        return found

    @contextlib.contextmanager
    def writing(self) -> Iterator[orm.Session]:
        """Begin a transaction that is committed at the end of the block.

        One at a time: of two that read first and then write, SQLite would
        refuse one at once.
        """
        with self._lock, self._facade.writer.using(_Context()) as session:
            yield session

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
