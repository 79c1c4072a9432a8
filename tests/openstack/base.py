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

"""The base of the tests in a whole cloud.

    class TestSomething(base.CloudTestCase):
        MODE = mode.Mode(method='pull')

        def test_it(self):
            server = self.shared_server()
            image = self.take(server)

One cloud serves the process; nova-compute is restarted where the mode of a
test is another one than that of the test before it.
"""

from collections.abc import Iterator
import contextlib
import pathlib
import time
from typing import Any
from typing import ClassVar

import openstack
import testtools
from testtools import content

from tests.functional import base as functional_base
from tests.lab import command
from tests.lab import disk as disk_lib
from tests.openstack import catalog
from tests.openstack import cloud as cloud_lib
from tests.openstack import environment
from tests.openstack import mode as mode_lib
from tests.openstack import seed
from tests.openstack import server as server_lib

#: Seconds until an image is active.
IMAGE_TIMEOUT = 300.0

#: Servers that all tests share, by what they were made with.
_shared: dict[str, server_lib.Server] = {}


class CloudTestCase(testtools.TestCase):
    """A test in the cloud of this process."""

    MODE: ClassVar[mode_lib.Mode] = mode_lib.Mode()

    def setUp(self) -> None:
        super().setUp()
        self.cloud = cloud_lib.shared_cloud()
        self.compute = self.cloud.compute
        self.gates = self.compute.gates
        self.gates.clear()
        self.addCleanup(self.gates.clear)
        self.cloud.libvirtd.start()
        self.compute.run(self.MODE)
        begin = self.compute.log_size()
        self.addOnException(lambda _: self._add_log(begin))

    def _add_log(self, begin: int) -> None:
        lines = self.compute.log_since(begin).splitlines()
        told = [line for line in lines if ' DEBUG ' not in line]
        text = '\n'.join(told[-200:])
        self.addDetailUniqueName('nova-compute', content.text_content(text))

    # Servers --------------------------------------------------------------

    def make_server(
        self,
        image: str = seed.IMAGE,
        flavor: str = seed.FLAVOR,
        wait: bool = True,
        **options: Any,
    ) -> server_lib.Server:
        """Make a server for this test only.

        :param image: name or id.
        :param wait: until it ticks.
        """
        server = self._create(image, flavor, options)
        self.addCleanup(server.delete)
        if wait:
            self._wait_until_up(server)
        return server

    def shared_server(
        self, flavor: str = seed.FLAVOR, **options: Any
    ) -> server_lib.Server:
        """Return a server that all tests share; replace a broken one."""
        key = repr((flavor, sorted(options.items())))
        server = _shared.get(key)
        if server is not None and not _is_well(server):
            _shared.pop(key).delete()
            server = None
        if server is None:
            server = self._create(seed.IMAGE, flavor, options)
            _shared[key] = server
            self._wait_until_up(server)
        return server

    def _create(
        self, image: str, flavor: str, options: dict[str, Any]
    ) -> server_lib.Server:
        connection = self.cloud.connection
        answer = connection.compute.create_server(
            name=options.pop('name', 'a server'),
            image_id=connection.image.find_image(image).id,
            flavor_id=connection.compute.find_flavor(flavor).id,
            networks='none',
            **options,
        )
        return server_lib.Server(self.cloud, answer.id)

    @staticmethod
    def _wait_until_up(server: server_lib.Server) -> None:
        server.wait_for_status('ACTIVE')
        # The log on its disk is behind its ticks by 200 ms.
        server.wait_for_ticks(40, server_lib.TIMEOUT)

    # Images ---------------------------------------------------------------

    def begin(self, server: server_lib.Server, name: str = 'image') -> str:
        """Ask Nova for an image; its id, the image is not there yet."""
        image = self.cloud.connection.compute.create_server_image(
            server.id, name
        )
        self.addCleanup(self._delete_image, image.id)
        return str(image.id)

    def take(self, server: server_lib.Server, name: str = 'image') -> str:
        """Take an image that has to become active; its id."""
        image_id = self.begin(server, name)
        self.wait_for_image(image_id)
        self.wait_until_idle(server)
        return image_id

    def take_with_client(
        self, server: server_lib.Server, name: str, user: str = 'admin'
    ) -> str:
        """Take an image by ``openstack server image create --wait``."""
        self.client(
            *('server', 'image', 'create', '--wait'),
            *('--name', name, server.id),
            user=user,
        )
        image = self.cloud.connection.image.find_image(
            name, ignore_missing=False
        )
        self.addCleanup(self._delete_image, image.id)
        return str(image.id)

    def client(self, *arguments: str, user: str = 'admin') -> str:
        """Run python-openstackclient; what it printed."""
        options = catalog.client_options(self.cloud.layout, user)
        words = [
            f'--os-{name.replace("_", "-")}={value}'
            for name, value in options.items()
        ]
        return command.run(
            *(environment.program('openstack'), *words),
            *('--os-compute-api-version', '2.96', *arguments),
        ).stdout

    def wait_for_image(self, image_id: str, status: str = 'active') -> Any:
        """Wait until an image has a status; ``gone`` where it is deleted."""
        deadline = time.monotonic() + IMAGE_TIMEOUT
        while (found := self.image_status(image_id)) != status:
            self.assertLess(time.monotonic(), deadline, found)
            if status != 'gone':
                self.assertIn(found, ('queued', 'saving', 'active'))
            time.sleep(0.2)
        return None if status == 'gone' else self.image(image_id)

    def image(self, image_id: str) -> Any:
        """Return an image as Glance shows it."""
        return self.cloud.connection.image.get_image(image_id)

    def image_status(self, image_id: str) -> str:
        """Its status; ``gone`` where it is deleted."""
        try:
            return str(self.image(image_id).status)
        except openstack.exceptions.NotFoundException:
            return 'gone'

    def image_file(self, image_id: str) -> pathlib.Path:
        """Its data."""
        return self.cloud.layout.images / image_id

    def _delete_image(self, image_id: str) -> None:
        with contextlib.suppress(openstack.exceptions.NotFoundException):
            self.cloud.connection.image.delete_image(image_id)

    # What has to hold -----------------------------------------------------

    @staticmethod
    def wait_until_idle(server: server_lib.Server) -> None:
        """Wait until Nova does nothing to it."""
        server.wait_until(lambda: server.task_state() is None, 'idleness')

    @contextlib.contextmanager
    def as_found(self, server: server_lib.Server) -> Iterator[None]:
        """Check that a block leaves the guest as before, and no file."""
        before = functional_base.Found.of(server)
        yield
        self.wait_until_idle(server)
        self.assertEqual(before, functional_base.Found.of(server))
        if before.state == 'running':
            self.assertTrue(server.is_ticking())
        self.assert_nothing_left(server)

    def assert_nothing_left(self, server: server_lib.Server) -> None:
        """No temporary file, no undo step, no unfinished image of it."""
        self.assertEqual([], self.files_left())
        for path in self._own_folders():
            # Not those on disks of servers: Nova runs qemu-img, too.
            self.assertEqual([], functional_base.programs(path))
        images = self.cloud.connection.image.images(instance_uuid=server.id)
        unfinished = [each for each in images if each.status != 'active']
        self.assertEqual([], unfinished)

    def files_left(self) -> list[pathlib.Path]:
        """Temporary files and journal entries that are there now."""
        return [
            path
            for folder in self._own_folders()
            for path in folder.rglob('*')
            if path.is_file()
        ]

    def _own_folders(self) -> Iterator[pathlib.Path]:
        for name in ('snapshots', 'journal'):
            yield from self.cloud.layout.state.glob(f'nova/**/{name}')

    def assert_image_right(
        self, image_id: str, ticks: int, image_format: str = 'qcow2'
    ) -> None:
        """Check that an image has all data synced before ``ticks``."""
        path = self.image_file(image_id)
        if image_format == 'qcow2':
            self.assertEqual('', disk_lib.check(path))
            self.assertNotIn('backing-filename', disk_lib.info(path, 'qcow2'))
        found = disk_lib.file_system(path, image_format, replay_journal=True)
        self.assertTrue(found.clean, found.report)
        numbers = disk_lib.ring_numbers(path, image_format)
        self.assertGreaterEqual(max(numbers), ticks)

    def assert_boots(
        self, image_id: str, ticks: int, flavor: str = seed.FLAVOR
    ) -> server_lib.Server:
        """Check that a server boots from an image; return the server."""
        server = self.make_server(image_id, flavor, name='from an image')
        found = server.found_at_boot()
        self.assertIsNotNone(found, server.console())
        self.assertGreaterEqual(found, ticks)
        return server


def delete_shared_servers() -> None:
    """Delete all of them; running ones slow down what comes after."""
    while _shared:
        _shared.popitem()[1].delete()


def _is_well(server: server_lib.Server) -> bool:
    return (
        server.status() == 'ACTIVE'
        and server.state() == 'running'
        and server.is_ticking()
    )
