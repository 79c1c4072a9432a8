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


"""What is refused before a guest is made, on libvirt's own test driver."""

import os
import pathlib
import tempfile
from typing import Any
import uuid

import fixtures
import libvirt

from nova_snap import exception
from nova_snap.objects import instance as instance_lib
from nova_snap.virt import creation
from nova_snap.virt.libvirt import host as host_lib
from nova_snap.virt.libvirt import new_disks
from nova_snap.virt.libvirt import new_guest
from nova_snap.virt.libvirt import rebuild_xml
from tests.unit import base
from tests.unit.virt.libvirt import samples

URI = 'test:///default'


class PlannedTest(base.TestCase):
    """A server like another, whose disk is in a folder."""

    def setUp(self) -> None:
        super().setUp()
        self.connection = libvirt.open(URI)
        self.addCleanup(self.connection.close)
        self.host = host_lib.Host(URI)
        self.work, self.default = self.folder(), self.folder()
        self.useFixture(
            fixtures.MonkeyPatch(
                'nova_snap.virt.libvirt.new_guest.DEFAULT_DIRECTORY',
                self.default,
            )
        )

    def define(self, name: str, metadata: str = '') -> str:
        """Define a server with a disk in the folder."""
        path = self.work / f'{name}-vda.qcow2'
        xml = samples.domain(
            samples.disk().replace(samples.OVERLAY, str(path)),
            virt_type='test',
            metadata=metadata,
        )
        own = xml.replace(samples.UUID, str(uuid.uuid4()))
        domain = self.connection.defineXML(own.replace(samples.NAME, name))
        self.addCleanup(domain.undefine)
        return name

    def planned(self, like: str, **more: Any) -> new_guest.NewGuest:
        """Plan a server that is named "new"."""
        disk = creation.Disk(None, 'I', more.pop('format', 'qcow2'), 100)
        return new_guest.planned(
            self.host,
            instance_lib.Instance(str(uuid.uuid4()), more.pop('name', 'new')),
            creation.Wanted(disks=[disk], like=like, **more),
            reserved=0,
        )

    def directory(self, new: new_guest.NewGuest) -> pathlib.Path:
        """Return where the disk of a planned server will be."""
        (placed,) = new.disks.placed
        return placed.path.parent

    def test_beside_the_disk_of_the_other(self) -> None:
        planned = self.planned(self.define('web'))
        self.assertEqual(self.work, self.directory(planned))
        self.assertEqual('I', rebuild_xml.image(planned.xml))

    def test_not_in_a_directory_that_nova_removes(self) -> None:
        like = self.define('web', samples.NOVA.format(version='1.1'))
        self.assertEqual(self.default, self.directory(self.planned(like)))

    def test_format_before_the_download(self) -> None:
        error = self.assertRaises(
            exception.UnsafeImage,
            self.planned,
            self.define('web'),
            format='vmdk',
        )
        self.assertIn('vmdk', str(error))

    def test_disk_that_a_guest_has_lost(self) -> None:
        like = self.define('new')
        self.assertRaises(exception.Conflict, self.planned, like)
        self.connection.lookupByName('new').rename('other')
        error = self.assertRaises(exception.Conflict, self.planned, 'other')
        self.assertIn('no such file', str(error))

    def test_storage_pool(self) -> None:
        like, target = self.define('web'), self.folder()
        pool = self.connection.storagePoolDefineXML(
            f"<pool type='dir'><name>p</name><target><path>{target}</path>"
            '</target></pool>'
        )
        self.addCleanup(pool.undefine)
        # What is to be mounted there would hide the disk.
        self.assertRaises(exception.Invalid, self.planned, like, pool='p')
        pool.create()
        self.addCleanup(pool.destroy)
        found = self.planned(like, pool='p')
        self.assertEqual(target, self.directory(found))


class NewDisksTest(base.TestCase):
    """Files that become disks."""

    def setUp(self) -> None:
        super().setUp()
        self.work = self.folder()
        self.model = self.work / 'model'
        self.model.touch(0o640)
        self.placed = new_disks.Placed.of(
            creation.Disk('vda', 'I', 'raw', 100),
            'vda',
            samples.UUID,
            self.work / 'web-vda.raw',
            self.model,
        )
        self.disks = new_disks.NewDisks([self.placed], 1 << 30)

    def made(self, data: bytes) -> None:
        """Make the file, as files() does; it stays open."""
        file = self.disks._file(self.placed.part)
        self.addCleanup(file.close)
        file.write(data)
        file.flush()

    def test_named(self) -> None:
        self.made(b'data')
        self.disks.complete()
        self.assertEqual(b'data', self.placed.path.read_bytes())
        self.assertEqual(0o600, self.placed.path.stat().st_mode & 0o777)

    def test_empty_disk(self) -> None:
        self.made(b'')
        self.assertRaises(exception.UnsafeImage, self.disks.complete)

    def test_another_file_in_its_place(self) -> None:
        self.made(b'data')
        with tempfile.NamedTemporaryFile(dir=self.work) as other:
            other.write(b'hostile')
            other.flush()
            os.link(other.name, new := self.work / 'new')
        os.rename(new, self.placed.part)
        self.assertRaises(exception.UnsafeDisk, self.disks.complete)

    def test_link_in_its_place(self) -> None:
        self.made(b'data')
        self.placed.part.unlink()
        self.model.write_bytes(b'of somebody else')
        self.placed.part.symlink_to(self.model)
        self.assertRaises(exception.UnsafeDisk, self.disks.complete)

    def test_owner_and_mode_of_a_model(self) -> None:
        self.made(b'data')
        self.disks.complete()
        if os.geteuid() == 0:
            os.chown(self.model, 1234, 5678)
        self.placed.take_owner()
        found, model = self.placed.path.stat(), self.model.stat()
        self.assertEqual(
            (model.st_uid, model.st_gid, 0o640),
            (found.st_uid, found.st_gid, found.st_mode & 0o777),
        )
        self.model.unlink()
        self.placed.take_owner()  # stays as it is
