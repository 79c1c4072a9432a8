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


"""Disks on RBD that are read while nobody writes to them.

Ceph is real; see ``tests/lab/rbd_images.py``.
"""

import base64
import os
import pathlib
import random

from nova_snap.virt.libvirt.extraction import rbd_holes
from nova_snap.virt.storage import disk_source as storage
from nova_snap.virt.storage import rbd
from tests.functional import content
from tests.lab import command
from tests.lab import disk as disk_lib
from tests.lab import guest as guest_lib
from tests.lab import rbd_images
from tests.lab import root_disk

MIB = root_disk.MIB

#: Of the disk, which is a clone and nearly empty.
SIZE = 512 * MIB

#: Chooses what is written where; a failure names the one that it had.
SEED = int(os.environ.get('NOVA_SNAP_TEST_SEED') or 1)


class TestHoles(content.ContentTestCase):
    """What is certainly zeros is not read, and the image has all the rest."""

    OPTIONS = content.COLD

    def setUp(self) -> None:
        super().setUp()
        self.lab = rbd_images.shared_lab()

    def test_clone(self) -> None:
        path = self.make_clone()
        guest = self.rbd_guest(path)
        exported = self.lab_export(path)
        with self.subTest(seed=SEED):
            self.check_holes(path, exported)
            done = self.run_command('image-create', guest.uuid, 'image')
            self.assertRegex(done.stderr, r'Of disk rbd:\S+, \d+ MiB are zero')
            (record,) = self.images.list()
            image = self.image(record.id)
            self.assertEqual(
                '',
                disk_lib.differences(
                    image.path, image.format, exported, 'raw'
                ),
            )
            self.assert_nothing_left()

    def check_holes(self, path: pathlib.Path, exported: pathlib.Path) -> None:
        """Check that most of the disk is holes, and that they are zeros."""
        location = storage.RbdLocation(
            path.parent.name,
            path.name,
            user='nova',
            conf=str(self.lab.ceph.conf),
        )
        key = base64.b64decode(self.lab.ceph.key('nova'))
        with rbd.connected(location, key) as ceph:
            holes = rbd_holes.found(ceph, location, lambda: None)
        assert holes is not None
        self.assertEqual(SIZE, holes.size)
        lengths = [hole.beyond - hole.start for hole in holes.extents]
        self.assertGreater(sum(lengths), SIZE // 2)
        with open(exported, 'rb') as file:
            for hole, length in zip(holes.extents, lengths, strict=True):
                file.seek(hole.start)
                data = file.read(length)
                self.assertEqual(length, data.count(0), hole)

    def rbd_guest(self, path: pathlib.Path) -> guest_lib.Guest:
        """Make a guest that is shut off, with its root disk on RBD."""
        return self.make_guest(
            start=False, disk=self.lab.disk(self.libvirtd, path.name)
        )

    def make_clone(self) -> pathlib.Path:
        """Make a clone of a clone; each writes, discards, and is written.

        Their objects differ in size.
        """
        rbd = self.lab.ceph.rbd
        chance = random.Random(SEED)  # noqa: S311
        path = pathlib.Path(rbd_images.DISKS, os.urandom(4).hex())
        rbd('create', '--size', f'{SIZE // MIB}M', path)
        self.write(path, chance)
        for object_size in ('8M', '4M'):
            clone = path.with_name(os.urandom(4).hex())
            rbd('snap', 'create', '--no-progress', f'{path}@base')
            rbd('snap', 'protect', f'{path}@base')
            rbd('clone', '--object-size', object_size, f'{path}@base', clone)
            path = clone
            self.write(path, chance)
        return path

    def write(self, path: pathlib.Path, chance: random.Random) -> None:
        """Write to, discard and zero parts of an RBD image."""
        lines = []
        for verb in ('write -P 0x5a', 'discard', 'write -z', 'write -P 0xa5'):
            for _time in range(4):
                start = chance.randrange(SIZE // 512) * 512
                # Some where the others are.
                start %= chance.choice((SIZE, 64 * MIB))
                length = chance.choice((512, 65536, 4 * MIB, 9 * MIB))
                length = min(length, SIZE - start)
                lines.append(f'{verb} {start} {length}\n')
        command.run(
            *('qemu-io', '-f', 'raw', '-d', 'unmap'),
            f'rbd:{path}:conf={self.lab.ceph.conf}',
            stdin=''.join(lines),
        )

    def lab_export(self, path: pathlib.Path) -> pathlib.Path:
        """Return a file with the data of an RBD image."""
        target = self.directory() / 'exported'
        self.lab.ceph.rbd('export', '--no-progress', path, target)
        return target
