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

"""What the cloud does with each of OpenStack's services."""

import abc
import os
from typing import ClassVar

from tests.lab import command
from tests.lab import daemon
from tests.openstack import api_server
from tests.openstack import environment
from tests.openstack import layout as layout_lib


class Service(abc.ABC):
    """A service with an API; ``configure``, ``prepare``, ``start``.

    :cvar databases: what it keeps in MariaDB.
    """

    databases: ClassVar[tuple[str, ...]] = ()

    api: api_server.ApiServer

    def __init__(self, layout: layout_lib.Layout) -> None:
        self.layout = layout

    @abc.abstractmethod
    def configure(self) -> None:
        """Write its configuration."""

    @abc.abstractmethod
    def prepare(self) -> None:
        """Make the tables of its databases, which are empty."""

    def start(self) -> None:
        """Start its processes and return at once."""
        self.api.start()

    def wait_until_up(self) -> None:
        """Wait until its API answers."""
        self.api.wait_until_up()

    def daemons(self) -> list[daemon.Daemon]:
        """Its processes."""
        return [self.api.daemon]

    @staticmethod
    def manage(name: str, *arguments: str | os.PathLike[str]) -> str:
        """Run one of the programs of the services; what it said."""
        return command.run(environment.program(name), *arguments).stdout
