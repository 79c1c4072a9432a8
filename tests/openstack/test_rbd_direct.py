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
"""Images of servers in Ceph: made inside Ceph, by a real nova-compute."""

import contextlib
import dataclasses
import pathlib
import re
import time
from typing import Any
from typing import ClassVar

from tests.lab import command
from tests.lab import disk as disk_lib
from tests.lab import exhaustive
from tests.lab import fault_proxy
from tests.lab import rbd_images
from tests.lab import steps
from tests.openstack import cloud as cloud_lib
from tests.openstack import in_ceph
from tests.openstack import layout
from tests.openstack import mode
from tests.openstack import records
from tests.openstack import seed
from tests.openstack import server as server_lib
from tests.openstack import test_kill

#: Where the data is; and what changes after an image is active, when Glance
#: computes its hash.
OWN = ('direct_url', 'os_hash_algo', 'os_glance_import_task')

#: What nova-compute logs of the methods that it tries.
METHODS = {
    'the image is made inside Ceph': 'rbd_direct',
    'its disk is read as it is now': 'pull',
    'The guest is suspended': 'cold',
}

ADD_LOCATION = '/locations$'

#: The fate of the data after an image is made, by who copies it.
FLATTEN = exhaustive.choose(
    (
        ('client', 'threading'),
        ('client', 'eventlet'),
        ('later', 'threading'),
        ('later', 'eventlet'),
        ('never', 'threading'),
        ('never', 'eventlet'),
    ),
    (('client', 'threading'), ('later', 'eventlet'), ('never', 'threading')),
)

#: A user of the administrator's project, with the role of this name only.
MEMBER = 'member'

#: Seconds until Ceph's trash is empty.
SETTLE_TIMEOUT = 30


class RbdDirectTest(test_kill.KillTestCase):
    """One server in Ceph for all tests."""

    _cloud: ClassVar[in_ceph.CloudInCeph]
    _stack: ClassVar[contextlib.ExitStack]
    _server: ClassVar[server_lib.Server | None] = None

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        with contextlib.ExitStack() as stack:
            cloud = in_ceph.CloudInCeph(cloud_lib.shared_cloud())
            cls._cloud = stack.enter_context(cloud)
            cls.MODE = mode.Mode().with_options(cloud.nova_options())
            _make_member(cloud_lib.shared_cloud(), stack)
            cls._stack = stack.pop_all()
        cls._stack.callback(cls._delete_server)

    @classmethod
    def tearDownClass(cls) -> None:
        cls._stack.close()
        super().tearDownClass()

    @classmethod
    def _delete_server(cls) -> None:
        if cls._server is not None:
            cls._server.delete()
            cls._server = None

    def setUp(self) -> None:
        super().setUp()
        self.ceph = self._cloud.ceph
        self.proxy = self.cloud.image_proxy
        self.addCleanup(self.proxy.clear)
        self._log_begin = self.compute.log_size()
        self._before = self.images_in_ceph()

    def shared_server(
        self, flavor: str = seed.FLAVOR_SMALL, **options: Any
    ) -> server_lib.Server:
        """Return the server of this class."""
        if self._server is None:
            server = self._create(in_ceph.IMAGE, flavor, options)
            type(self)._server = server
            self._wait_until_up(server)
        return self._server

    # Tests ----------------------------------------------------------------

    def test_equal_bit_by_bit(self) -> None:
        """For a user who is no administrator, of a guest that is paused."""
        server = self.shared_server()
        server.act('pause', 'PAUSED')
        self.addCleanup(server.act, 'unpause', 'ACTIVE')
        with self.as_found(server):
            image_id = self.take_with_client(server, 'direct', MEMBER)
        self.assert_direct(image_id)
        self.assertEqual(1, self.proxy.count('POST', ADD_LOCATION))
        path = self.image_path(image_id)
        same = command.run(
            *('qemu-img', 'compare', '-U', '-f', 'raw', '-F', 'raw'),
            *(self.qemu_name(self.disk(server)), self.qemu_name(path)),
            accept=(0, 1),
        )
        self.assertIn('identical', same.stdout)
        self.assertNotIn('parent: ', self.ceph.rbd('info', path))

    def test_record_of_a_running_server(self) -> None:
        """As Nova's own driver leaves it, and Nova boots from it."""
        server = self.shared_server()
        ticks = server.ticks() - 40
        ours = self.outcome(server)
        self.assertEqual(['rbd_direct'], self.methods())
        image_id = self.take(server)
        self.assert_boots_in_ceph(image_id, ticks)
        options = self._cloud.nova_options()
        self.compute.run(mode.UNMODIFIED.with_options(options))
        self.assertEqual(self.outcome(server), ours)

    def test_killed(self) -> None:
        for point in steps.NOVA_RBD_DIRECT:
            self.check(point)
            self.assert_nothing_left_in_ceph()

    def test_killed_when_the_image_is_complete(self) -> None:
        """The image stays, and so does its data."""
        self.check(steps.after('set-location'), 'active')
        self.assert_nothing_left_in_ceph(self.last_image)

    def test_without_the_role_of_a_service(self) -> None:
        """Glance refuses the location; the guest is not suspended."""
        without = {'service_user.send_service_user_token': 'false'}
        eventlet = dataclasses.replace(self.MODE, backend='eventlet')
        self.compute.run(eventlet.with_options(without))
        server = self.shared_server()
        ticks = server.ticks() - 40
        with self.as_found(server):
            image_id = self.take(server)
        self.assertEqual(['rbd_direct', 'pull'], self.methods())
        self.assertEqual('raw', self.image(image_id).disk_format)
        self.assert_content(image_id, ticks)
        self.assert_nothing_left_in_ceph(image_id)

    def test_each_way_to_copy_the_data(self) -> None:
        """Glance may read the disks, as two of the ways want it."""
        pools = rbd_images.DISKS, rbd_images.IMAGES
        self._cloud.let_glance_use(*pools)
        self.addCleanup(self._cloud.let_glance_use, rbd_images.IMAGES)
        server = self.shared_server()
        for flatten, backend in FLATTEN:
            with self.subTest(flatten, backend=backend):
                every = dataclasses.replace(self.MODE, backend=backend)
                option = {'nova_snap.rbd_flatten': flatten}
                self.compute.run(every.with_options(option))
                self.check_copied(server, flatten)

    def check_copied(self, server: server_lib.Server, flatten: str) -> None:
        """Take an image, and look what it depends on when Nova is done."""
        self._log_begin = self.compute.log_size()
        ticks = server.ticks() - 40
        with self.as_found(server):
            image_id = self.take(server)
        self.assertEqual(['rbd_direct'], self.methods())
        self.assert_content(image_id, ticks)
        path = self.image_path(image_id).split('@')[0]
        has_parent = 'parent: ' in self.ceph.rbd('info', path)
        self.assertEqual(flatten == 'never', has_parent)
        # With the image goes what it depends on.
        self._delete_image(image_id)
        self.assert_nothing_left_in_ceph()

    def test_older_glance(self) -> None:
        """It has no call for locations; the record is changed."""
        no_call = fault_proxy.Answer(404, b'No such call.')
        self.proxy.add('POST', ADD_LOCATION, no_call, None)
        self.enterContext(self._cloud.changeable_locations())
        server = self.shared_server()
        ticks = server.ticks() - 40
        with self.as_found(server):
            image_id = self.take(server)
        self.assert_direct(image_id)
        self.assertGreater(self.proxy.count('PATCH', image_id), 0)
        self.assert_content(image_id, ticks)

    def test_frozen_by_its_agent(self) -> None:
        """The file system is clean without a replay of its journal."""
        server = self.shared_server()
        server.wait_for(lambda: _has_agent(server), 'agent', 120)
        with self.as_found(server):
            image_id = self.take(server)
        self.assert_direct(image_id)
        log = self.compute.log_since(self._log_begin)
        self.assertRegex(log, rf'{server.id} were frozen for \d+ ms')
        found = disk_lib.file_system(self.exported(image_id), 'raw')
        self.assertTrue(found.clean, found.report)

    # What has to hold -----------------------------------------------------

    def kill(self, server: server_lib.Server, point: steps.Point) -> str:
        """Note the image."""
        self.last_image = super().kill(server, point)
        return self.last_image

    def outcome(self, server: server_lib.Server) -> records.Outcome:
        """Take an image and write down what does not depend on the moment."""
        outcome = records.take(self, server)
        for name in OWN:
            outcome.image.pop(name, None)
        return outcome

    def methods(self) -> list[str]:
        """Return the methods that were tried in this test."""
        log = self.compute.log_since(self._log_begin)
        found = re.findall('|'.join(METHODS), log)
        return [METHODS[words] for words in found]

    def assert_direct(self, image_id: str) -> None:
        """Check that only this image was made, inside Ceph."""
        self.assertEqual(['rbd_direct'], self.methods())
        self.assert_nothing_left_in_ceph(image_id)

    def assert_content(self, image_id: str, ticks: int) -> None:
        """Check that an image is whole, and of this moment or later."""
        path = self.exported(image_id)
        found = disk_lib.file_system(path, 'raw', replay_journal=True)
        self.assertTrue(found.clean, found.report)
        numbers = disk_lib.ring_numbers(path, 'raw')
        self.assertGreaterEqual(max(numbers), ticks)

    def exported(self, image_id: str) -> pathlib.Path:
        """Return a file with the data of an image."""
        path = self.cloud.layout.folder('exported') / image_id
        source = self.image_path(image_id)
        self.ceph.rbd('export', '--no-progress', source, path)
        self.addCleanup(path.unlink)
        return path

    def assert_boots_in_ceph(self, image_id: str, ticks: int) -> None:
        """Check that a server boots from a clone of an image."""
        server = self.make_server(image_id, seed.FLAVOR_SMALL, name='clone')
        self.assertGreaterEqual(server.found_at_boot() or 0, ticks)
        info = self.ceph.rbd('info', self.disk(server))
        self.assertIn(f'parent: {self.image_path(image_id)}', info)
        server.delete()

    def assert_nothing_left_in_ceph(self, *image_ids: str) -> None:
        """Check that these images are all that was made in Ceph."""
        wanted = {self.image_path(i).split('@')[0] for i in image_ids}
        deadline = time.monotonic() + SETTLE_TIMEOUT
        while (left := self.left_in_ceph()) != wanted:
            self.assertLess(time.monotonic(), deadline, left)
            time.sleep(0.2)

    def left_in_ceph(self) -> set[str]:
        """Return new images, and snapshots of the disk of the server."""
        left = self.images_in_ceph() - self._before
        if self._server is not None:
            disk = self.disk(self._server)
            snapshots = self.ceph.rbd('snap', 'ls', '--all', disk).strip()
            left |= {snapshots} - {''}
        return left

    def images_in_ceph(self) -> set[str]:
        """Return what is in Glance's pool, and in its trash."""
        pool = rbd_images.IMAGES
        return {
            *(f'{pool}/{name}' for name in self.ceph.rbd('ls', pool).split()),
            *self.ceph.rbd('trash', 'ls', pool).splitlines(),
        }

    @staticmethod
    def disk(server: server_lib.Server) -> pathlib.Path:
        """Return the path of its root disk in Ceph."""
        return pathlib.Path(rbd_images.DISKS, f'{server.id}_disk')

    def image_path(self, image_id: str) -> str:
        """Return what Glance reads of an image, as rbd names it."""
        found = self.cloud.connection.image.get(f'/images/{image_id}').json()
        _fsid, pool, image, snapshot = found['direct_url'][6:].split('/')
        return f'{pool}/{image}@{snapshot}'

    def qemu_name(self, path: str | pathlib.Path) -> str:
        return f'rbd:{path}:conf={self.ceph.conf}'


def _has_agent(server: server_lib.Server) -> bool:
    with server.domain() as dom:
        return "state='connected'" in dom.XMLDesc()


def _make_member(cloud: cloud_lib.Cloud, stack: contextlib.ExitStack) -> None:
    """Make the user, who is deleted in the end."""
    identity = cloud.connection.identity
    user = identity.create_user(
        name=MEMBER, password=layout.SECRET, domain_id='default'
    )
    stack.callback(identity.delete_user, user)
    identity.assign_project_role_to_user(
        identity.find_project('admin'), user, identity.find_role(MEMBER)
    )
