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


"""Images of root disks on RBD that are made inside Ceph."""

import hashlib
import subprocess

from nova_snap import exception
from tests.functional import base
from tests.functional import content
from tests.functional import rbd_base
from tests.functional import test_content_hostile
from tests.lab import command as lab_command
from tests.lab import disk as disk_lib
from tests.lab import fault_proxy
from tests.lab import guest as guest_lib
from tests.lab import rbd_images
from tests.lab import root_disk

MIB = root_disk.MIB


class TestContent(rbd_base.RbdDirectTestCase):
    """What the image holds, and what became of the guest."""

    def test_running(self) -> None:
        guest = self.shared_guest()
        done = self.run_command('explain', guest.uuid, '-f', 'value')
        self.assertIn('decision live rbd_direct', done.stdout)
        least = guest.ticks()
        image = self.take(guest)
        path = self.export(self.image_path(image.id))
        self.assertTrue(disk_lib.file_system(path, 'raw').clean)
        self.assertGreaterEqual(max(disk_lib.ring_numbers(path, 'raw')), least)
        self.assertEqual(path.stat().st_size, image.size)
        self.assertFalse(self.has_parent(image.id))
        # Glance sends it, and removes it.
        data = lab_command.run('sha512sum', path).stdout.split()[0]
        self.assertEqual(data, self.downloaded_hash(image.id))
        self.glance.delete(image.id)
        self.assert_nothing_left_in_ceph(guest)

    def test_paused_and_larger_than_its_data(self) -> None:
        """Equal bit by bit, with few bytes through this host."""
        guest = self.rbd_guest(self.rbd_image(size='1G'))
        with content.paused(guest):
            counted = self.directory() / 'bytes'
            done = self.run_module('count_bytes', str(counted), guest)
            image_id = done.stdout.strip()
            self.assertLess(int(counted.read_text()), MIB)
            same = lab_command.run(
                *('qemu-img', 'compare', '-U', '-f', 'raw', '-F', 'raw'),
                self.qemu_name(str(guest.spec.disk.path)),
                self.qemu_name(self.image_path(image_id)),
                accept=(0, 1),
            )
            self.assertIn('identical', same.stdout)
        self.assert_nothing_left_in_ceph(guest, image_id)

    def test_never_flattened_and_later(self) -> None:
        """Active before its data is copied, if Glance can read the disk."""
        self.let_glance_read_disks()
        guest = self.rbd_guest(start=False)
        self.configure(snapshot={'rbd_flatten': 'never'})
        image_id = self.image_create(guest)
        self.assertTrue(self.has_parent(image_id))
        self.assertIn('trash', self.lab.snapshots(guest.spec.disk.path))
        # Ceph removes the snapshot with the image.
        self.glance.delete(image_id)
        self.assert_nothing_left_in_ceph(guest)
        self.configure(snapshot={'rbd_flatten': 'later'})
        image = self.take(guest)
        self.assertFalse(self.has_parent(image.id))

    def test_shut_off_clone_that_is_flattened_by_the_client(self) -> None:
        """The disk is a clone itself, as Nova's are."""
        ceph = self.lab.ceph
        parent = self.rbd_image()
        ceph.rbd('snap', 'create', f'{parent}@base')
        ceph.rbd('snap', 'protect', f'{parent}@base')
        path = parent.with_name(f'{parent.name}-disk')
        ceph.rbd('clone', f'{parent}@base', path)
        self.configure(snapshot={'rbd_flatten': 'client'})
        guest = self.rbd_guest(path, start=False)
        image = self.take(guest, '--all-disks')  # it has one
        self.assertFalse(self.has_parent(image.id))
        exported = self.export(self.image_path(image.id))
        whole = self.export(path)
        self.assertEqual(
            '', disk_lib.differences(exported, 'raw', whole, 'raw')
        )

    def test_image_that_a_clone_uses(self) -> None:
        """Glance keeps it as long as there is a clone."""
        ceph = self.lab.ceph
        image = self.take(self.rbd_guest(start=False))
        child = f'{rbd_images.DISKS}/child-{image.id}'
        ceph.rbd('clone', self.image_path(image.id), child)
        self.assertRaises(
            exception.ImageConflict, self.glance.delete, image.id
        )
        self.assertIn('parent: ', ceph.rbd('info', child))
        self.assertEqual('active', self.glance.get(image.id).status)
        ceph.rbd('rm', '--no-progress', child)

    def test_raw_that_claims_to_be_qcow2(self) -> None:
        """The ordinary way follows, and Glance refuses what it is sent."""
        guest = self.rbd_guest(start=False)
        header = self.directory() / 'header'
        header.write_bytes(test_content_hostile.HEADERS['qcow2'](64 * MIB))
        lab_command.run(
            *('qemu-io', '-f', 'raw', '-c', f'write -s {header} 0 512'),
            self.qemu_name(str(guest.spec.disk.path)),
        )
        done = self.run_command('image-create', guest.uuid, 'image', status=1)
        self.assertIn('begins as an image of format qcow2', done.stderr)
        self.assertRegex(done.stderr, 'rejected image .*safety checks')
        self.assert_nothing_left_in_ceph(guest)

    def test_export(self) -> None:
        """The bytes are wanted, so they are read."""
        guest = self.shared_guest()
        target = self.directory() / 'file'
        done = self.run_command('export', guest.uuid, '-o', str(target))
        self.assertEqual(['rbd_direct', 'pull'], self.methods(done))
        self.assertTrue(disk_lib.file_system(target, 'raw', True).clean)

    def downloaded_hash(self, image_id: str) -> str:
        """Return the hash of the data that Glance sends of an image."""
        digest = hashlib.sha512()
        for chunk in self.glance._client.images.data(image_id):
            digest.update(chunk)
        return digest.hexdigest()

    def run_module(
        self, module: str, argument: str, guest: guest_lib.Guest
    ) -> subprocess.CompletedProcess[str]:
        argv = self.command(
            *('image-create', guest.uuid, 'image', '-f', 'value', '-c', 'id')
        )
        shell = argv.index('nova_snap.cmd.shell')
        argv[shell : shell + 1] = [f'tests.functional.{module}', argument]
        done = self.finish(self.start_process(argv))
        self.assertEqual(0, done.returncode, done.stderr)
        return done

    def qemu_name(self, path: str) -> str:
        return f'rbd:{path}:conf={self.lab.ceph.conf}'


class FallbackTestCase(rbd_base.RbdDirectTestCase):
    """Not possible inside Ceph: pulled, and the guest never suspended."""

    def check_pulled(
        self, guest: guest_lib.Guest, *methods: str
    ) -> subprocess.CompletedProcess[str]:
        found = base.Found.of(guest)
        done = self.run_command(
            *('image-create', guest.uuid, 'image', '-f', 'value', '-c', 'id')
        )
        self.assertEqual([*methods, 'pull'], self.methods(done))
        image = self.glance.get(done.stdout.strip())
        self.assertEqual('active', image.status)
        self.assert_as_found(guest, found)
        self.assert_nothing_left_in_ceph(guest, image.id)
        return done


class TestRefused(FallbackTestCase):
    """A user whose locations Glance does not accept."""

    LOGIN = 'member'

    def test_no_role(self) -> None:
        done = self.check_pulled(self.shared_guest(), 'rbd_direct')
        self.assertIn('a location in Glance', done.stderr)


class TestUnavailable(FallbackTestCase):
    """What is known before anything is made, and what comes up later."""

    def test_pool_without_permission(self) -> None:
        path = self.rbd_image()
        guest = self.rbd_guest(path, user='reader')
        done = self.run_command('explain', guest.uuid, '-f', 'value')
        self.assertIn('RADOS permission error', done.stdout)
        self.check_pulled(guest)

    def test_no_manager(self) -> None:
        """This host flattens then."""
        guest = self.rbd_guest(user='no-manager', start=False)
        done = self.run_command('image-create', guest.uuid, 'image')
        self.assertIn('This host copies the data of image', done.stderr)
        (image,) = self.glance.list()
        self.assertFalse(self.has_parent(image.id))
        self.assert_nothing_left_in_ceph(guest, image.id)

    def test_task_of_glance_fails(self) -> None:
        """Glance accepts the location, and then can't read it."""

        def remove(_request: fault_proxy.Request) -> None:
            (image,) = self.lab.listed(rbd_images.IMAGES)
            path = f'{rbd_images.IMAGES}/{image}'
            self.lab.ceph.rbd('snap', 'unprotect', f'{path}@snap')
            self.lab.ceph.rbd('snap', 'rm', '--no-progress', f'{path}@snap')
            self.lab.ceph.rbd('rm', '--no-progress', path)

        self.proxy.add('POST', '/locations$', fault_proxy.Call(remove))
        self.check_pulled(self.shared_guest(), 'rbd_direct')

    def test_glance_gone(self) -> None:
        """The snapshot fails, and what was made is removed later."""
        guest = self.shared_guest()
        found = base.Found.of(guest)
        self.proxy.add(
            'POST', '/locations$', fault_proxy.Call(self.break_glance)
        )
        self.run_command('image-create', guest.uuid, 'image', status=6)
        self.assert_as_found(guest, found)
        self.assertNotEqual([], self.lab.listed(rbd_images.IMAGES))
        self.proxy.clear()
        self.run_command('recover')
        self.assert_nothing_left_in_ceph(guest)

    def break_glance(
        self, _request: fault_proxy.Request
    ) -> fault_proxy.Answer:
        """Let all requests fail from now on."""
        gone = fault_proxy.Answer(503)
        self.proxy.add('*', '', gone, times=None)
        return gone


class TestOlderGlance(rbd_base.RbdDirectTestCase):
    """Locations as before API 2.17."""

    LOGIN = 'locator'

    def test_patch(self) -> None:
        image = self.take(self.shared_guest())
        self.assertEqual(1, self.proxy.count('PATCH', image.id))
        self.assertFalse(self.has_parent(image.id))
