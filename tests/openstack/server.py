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

"""A server of the cloud, as Nova's API and as libvirt know it."""

from collections.abc import Callable
import pathlib
import re
import time
from typing import Any

import openstack

from tests.lab import domain
from tests.lab import guest as guest_lib
from tests.lab import root_disk
from tests.openstack import cloud as cloud_lib

#: Seconds for anything that Nova does to a server.
TIMEOUT = 240.0

#: What the guest says of the numbers that it found on its disk: how many
#: lines, and the last one.
FOUND = re.compile(r'^FOUND (\d+) (\d+)\r?$', re.MULTILINE)


class ServerFailed(Exception):
    """Nova did not do in time what was waited for; the message has its log."""


class Server(guest_lib.Guest):
    """A server, and the guest that it runs as.

    :param server_id: it is there; its guest may not be, yet.
    """

    def __init__(self, cloud: cloud_lib.Cloud, server_id: str) -> None:
        self.folder = cloud.layout.instances / server_id
        disk = root_disk.RootDisk(
            root_disk.Kind.OVERLAY, self.folder / 'disk', 'qcow2'
        )
        # Only what the guest's own methods look at; Nova makes the rest.
        super().__init__(
            cloud.libvirtd, domain.Spec(disk=disk, uuid=server_id)
        )
        self.serial_log = self.folder / 'console.log'
        self._cloud = cloud

    @property
    def id(self) -> str:
        """Its uuid."""
        return self.spec.uuid

    @property
    def disk(self) -> pathlib.Path:
        """Its root disk."""
        return self.spec.disk.path

    @property
    def _compute(self) -> Any:
        return self._cloud.connection.compute

    def show(self) -> Any:
        """Return the server as Nova's API shows it.

        :raises openstack.exceptions.NotFoundException: it is deleted.
        """
        return self._compute.get_server(self.id)

    def status(self) -> str:
        """``ACTIVE``, ``PAUSED``, ...; ``DELETED`` where it is gone."""
        try:
            return str(self.show().status)
        except openstack.exceptions.NotFoundException:
            return 'DELETED'

    def task_state(self) -> str | None:
        """Return the task state of the server, or None."""
        state = self.show().task_state
        return None if state is None else str(state)

    def wait_for_status(self, status: str, idle: bool = True) -> None:
        """Wait until it has a status.

        :param idle: and no task state.
        :raises ServerFailed: it is in ERROR, or not in time.
        """

        def arrived() -> bool:
            if status == 'DELETED':
                return self.status() == status
            server = self.show()
            if server.status == 'ERROR' != status:
                raise ServerFailed(f'{self.id}: ERROR {server.fault}')
            return server.status == status and not (idle and server.task_state)

        self.wait_until(arrived, status)

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for anything that Nova does.

        :raises ServerFailed: not in time.
        """
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            if time.monotonic() > deadline:
                log = self._cloud.compute.log_since(0)[-4000:]
                raise ServerFailed(f'{self.id}: no {what}\n{log}')
            time.sleep(0.2)

    def act(self, action: str, status: str, **arguments: Any) -> None:
        """Let Nova do something to it, ``pause`` say, and wait for its end.

        :param status: that it has afterwards.
        """
        method = getattr(self._compute, f'{action}_server')
        method(self.id, **arguments)
        self.wait_for_status(status)

    def delete(self) -> None:
        """Delete it and wait; one that is gone is fine."""
        self._compute.delete_server(self.id, ignore_missing=True)
        self.wait_for_status('DELETED')

    def found_at_boot(self) -> int | None:
        """Return the last number on the disk at the latest boot."""
        numbers = FOUND.findall(self.console())
        return int(numbers[-1][1]) if numbers else None

    def actions(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """Nova's own diary: actions, and events with results of each."""
        diary = []
        for action in self._compute.server_actions(self.id):
            whole = self._compute.get_server_action(action.request_id, self.id)
            events = [
                (event['event'], event['result']) for event in whole.events
            ]
            diary.append((str(action.action), sorted(events)))
        return diary
