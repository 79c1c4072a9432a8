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

"""A guest that writes the header of another format into its raw disk.

Whoever probes for the format follows such a header to files of the host. An
image has to hold the guest's bytes, and nothing else.
"""

import base64
import itertools
import pathlib
import struct

from tests.functional import content
from tests.lab import command
from tests.lab import exhaustive
from tests.lab import guest as guest_lib
from tests.lab import root_disk

SECRET_FILE = '/etc/passwd'
SECRET = b'root:x:0:0'

SECTOR = 512


def qcow2_header(size: int) -> bytes:
    """Of an empty qcow2 image over SECRET_FILE; what fits into a sector.

    Version 2; its only table is where a guest's disk has zeros, at the end.
    """
    name = SECRET_FILE.encode()
    table = size - (1 << 20)
    header = struct.pack(
        '>4sIQIIQIIQQIIQ',
        *(b'QFI\xfb', 2, 72, len(name), 16, size, 0, 1),
        *(table, table + (1 << 16), 1, 0, 0),
    )
    return (header + name).ljust(SECTOR, b'\0')


def vmdk_descriptor(size: int) -> bytes:
    """Of a flat VMDK image whose data is SECRET_FILE."""
    text = f"""# Disk DescriptorFile
version=1
CID=fffffffe
parentCID=ffffffff
createType="monolithicFlat"
RW {size // SECTOR} FLAT "{SECRET_FILE}" 0
ddb.adapterType = "ide"
"""
    return text.encode().ljust(SECTOR, b'\0')


def luks_header(_size: int) -> bytes:
    """Return the beginning of a LUKS volume, version 1."""
    header = struct.pack(
        '>6sH32s32s32s', b'LUKS\xba\xbe', 1, b'aes', b'xts-plain64', b'sha256'
    )
    return header.ljust(SECTOR, b'\0')


HEADERS = {
    'qcow2': qcow2_header,
    'vmdk': vmdk_descriptor,
    'luks': luks_header,
}


#: A header, and the format of the image.
CASES = exhaustive.choose(
    itertools.product(HEADERS, ('raw', 'qcow2')),
    (('qcow2', 'raw'), ('vmdk', 'qcow2'), ('luks', 'raw')),
)


class HostileTestCase(content.ContentTestCase):
    def plant(self, root: root_disk.RootDisk, kind: str) -> bytes:
        """Write a header into the disk of a guest that is shut off."""
        header = HEADERS[kind](root.path.stat().st_size)
        with open(root.path, 'r+b') as file:
            file.write(header)
        return header


class TestImageHoldsTheBytes(HostileTestCase):
    """The embedded image service, live and shut off."""

    def check(
        self,
        guest: guest_lib.Guest,
        header: bytes,
        image_format: str,
        path: str,
    ) -> None:
        """Check the image of a guest that does not write."""
        self.configure(libvirt={'snapshot_image_format': image_format})
        image = self.take(guest, path)
        self.assertEqual(image_format, image.format)
        self.assert_equal_to_disk(image, guest.spec.disk)
        raw = self.as_raw(image)
        self.assertEqual(header, raw[: len(header)])
        self.assertNotIn(SECRET, raw)

    def as_raw(self, image: content.Image) -> bytes:
        target = self.directory() / 'raw'
        command.run(
            *('qemu-img', 'convert', '-f', image.format, '-O', 'raw'),
            *(image.path, target),
        )
        return target.read_bytes()

    def assert_probing_leaks(self, path: pathlib.Path) -> None:
        """Check that the trap works: probing QEMU follows it."""
        target = self.directory() / 'leaked'
        command.run('qemu-img', 'convert', '-U', '-O', 'raw', path, target)
        self.assertIn(SECRET, target.read_bytes())

    def test_shut_off(self) -> None:
        guest = self.make_guest(kind=root_disk.Kind.RAW, start=False)
        for kind, image_format in CASES:
            with self.subTest(header=kind, format=image_format):
                header = self.plant(guest.spec.disk, kind)
                self.check(guest, header, image_format, 'read')
                if kind != 'luks':
                    self.assert_probing_leaks(guest.spec.disk.path)

    def test_written_by_the_running_guest(self) -> None:
        guest = self.class_guest(kind=root_disk.Kind.RAW, agent=True)
        size = guest.spec.disk.path.stat().st_size
        for kind, image_format in CASES:
            with self.subTest(header=kind, format=image_format):
                header = HEADERS[kind](size)
                self.write_first_sector(guest, header)
                with content.paused(guest):
                    if kind != 'luks':
                        self.assert_probing_leaks(guest.spec.disk.path)
                    self.check(guest, header, image_format, 'mirror')
        self.configure(**content.COLD)
        self.take(guest, 'cold')

    def write_first_sector(self, guest: guest_lib.Guest, data: bytes) -> None:
        """As root does in the guest; its kernel then writes it to the disk."""
        handle = guest.agent('guest-file-open', path='/dev/vda', mode='r+')
        text = base64.b64encode(data).decode()
        guest.agent('guest-file-write', handle=handle, **{'buf-b64': text})
        guest.agent('guest-file-flush', handle=handle)
        guest.agent('guest-file-close', handle=handle)
        # What a flush does not do for a block device, freezing does.
        guest.agent('guest-fsfreeze-freeze')
        guest.agent('guest-fsfreeze-thaw')
        guest.wait_for(
            lambda: self.first_sector(guest) == data, 'header on the disk', 60
        )

    @staticmethod
    def first_sector(guest: guest_lib.Guest) -> bytes:
        with open(guest.spec.disk.path, 'rb') as file:
            return file.read(SECTOR)
