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


"""Disks that others than Nova give to guests.

An image can be taken of each, or is refused before anything is begun.
"""

import pathlib
import subprocess
import uuid

from tests.functional import base
from tests.functional import content
from tests.functional import test_input
from tests.lab import disk as disk_lib
from tests.lab import guest as guest_lib
from tests.lab import root_disk

POOL = """<pool type='dir'>
  <name>{name}</name><target><path>{path}</path></target>
</pool>"""


class TestStoragePool(content.ContentTestCase):
    """A disk that is named by a pool of libvirt and a volume in it."""

    def setUp(self) -> None:
        super().setUp()
        self.pool = f'pool-{uuid.uuid4()}'
        folder = self.directory()
        made = root_disk.make(folder)
        self.disk = root_disk.RootDisk(
            made.kind, made.path, 'qcow2', 'volume', made.backing, self.pool
        )
        with self.libvirtd.connection() as connection:
            xml = POOL.format(name=self.pool, path=folder)
            connection.storagePoolDefineXML(xml).create()
        self.addCleanup(self.remove_pool)

    def remove_pool(self) -> None:
        with self.libvirtd.connection() as connection:
            pool = connection.storagePoolLookupByName(self.pool)
            if pool.isActive():
                pool.destroy()
            pool.undefine()

    def test_every_path(self) -> None:
        guest = self.make_guest(disk=self.disk)
        for path, options in (('mirror', {}), ('pull', content.PULL)):
            with self.subTest(path=path):
                self.configure(**options)
                before = guest.ticks()
                self.assert_one_moment(self.take(guest, path), before)
        guest.destroy()
        self.assert_equal_to_disk(self.take(guest, 'read'), self.disk)
        with self.libvirtd.connection() as connection:
            connection.storagePoolLookupByName(self.pool).destroy()
        done = self.run_command('image-create', guest.uuid, 'i', status=2)
        self.assertRegex(
            done.stderr.splitlines()[-1],
            f'vda cannot be read: .*root.qcow2 in .*{self.pool}.*not active',
        )
        self.assert_nothing_left()

    def test_pool_without_which_the_guest_could_not_start(self) -> None:
        guest = self.make_guest(extra_disks=(self.disk,))
        found = base.Found.of(guest)
        self.configure(**content.COLD)
        with self.libvirtd.connection() as connection:
            connection.storagePoolLookupByName(self.pool).destroy()
        for command in (
            ('image-create', guest.uuid, 'i'),
            ('explain', guest.uuid),
        ):
            done = self.run_command(*command, status=2)
            self.assertRegex(
                done.stderr, 'could not be started again: .*of its disk vdc'
            )
        self.assert_as_found(guest, found)
        self.assert_nothing_left()


class TestOddDisk(test_input.InputTestCase):
    """Disks that are not as Nova makes them."""

    def test_serial_that_is_a_uuid(self) -> None:
        """Only Nova's volumes have their id for a serial number."""
        serial = f'<serial>{uuid.uuid4()}</serial>'
        guest = self.define(disk_xml=serial)
        self.image_create(guest)
        self.assert_nothing_left()

    def test_transient_disk(self) -> None:
        """Neither copied nor exported nor saved by libvirt."""
        guest = self.make_guest(disk_xml='<transient/>', wait=False)
        found = base.Found.of(guest)
        for method in ('mirror', 'pull', 'auto'):
            self.configure(snapshot={'live_method': method})
            for words in (
                ('image-create', guest.uuid, 'i'),
                ('explain', guest.uuid),
            ):
                self.assert_refused(
                    test_input.INVALID,
                    'transient disk.*vda.*shut it off first',
                    *words,
                )
        self.assert_as_found(guest, found)
        guest.destroy()
        self.image_create(guest)

    def test_backing_file_in_the_form_of_qemu(self) -> None:
        guest = self.define()
        path, backing = guest.spec.disk.path, guest.spec.disk.backing
        for name in (
            f'file:{backing}',
            f'file://{backing}',
            f'json:{{"driver":"file","filename":"{backing}"}}',
            f'json:{{"driver":"qcow2","file.driver":"file",'
            f'"file.filename":"{backing}"}}',
        ):
            with self.subTest(name=name):
                self.rebase(path, name)
                image = self.image_file(self.image_create(guest))
                # QEMU itself does not open each form that libvirt knows.
                self.rebase(path, str(backing))
                self.assertEqual(
                    '',
                    disk_lib.differences(image, 'qcow2', path, 'qcow2'),
                )
        # An offset changes what is read, so nothing is guessed.
        self.rebase(path, f'json:{{"offset":512,"file.filename":"{backing}"}}')
        self.assert_refused_late('is not a file of this host', guest)

    def rebase(self, path: pathlib.Path, name: str) -> None:
        """Write the name of the backing file into the header."""
        subprocess.run(
            ['qemu-img', 'rebase', '-u', '-f', 'qcow2', '-F', 'qcow2']
            + ['-b', name, str(path)],
            check=True,
        )

    def assert_refused_late(self, says: str, guest: guest_lib.Guest) -> None:
        done = self.run_command('image-create', guest.uuid, 'i', status=1)
        self.assertRegex(done.stderr.splitlines()[-1], says)
        self.assert_nothing_left()
