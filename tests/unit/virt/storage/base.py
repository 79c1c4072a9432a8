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


"""Real disks in files, made and looked at by qemu-img itself."""

import json
import os
import pathlib
import subprocess
from typing import Any

from nova_snap.virt.storage import disk_source as storage
from tests.unit import base

KIB = 1 << 10
MIB = 1 << 20

#: The size of the disks here, and of what is not zero in them.
SIZE = 8 * MIB


def ignore(_share: float) -> None:
    """Take progress for what it is."""


def tool(*argv: object) -> str:
    """Run a program; return its output."""
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f'{argv[0]}: {done.stderr}')
    return done.stdout


def header(path: pathlib.Path, name: str) -> dict[str, Any]:
    """Return the output of qemu-img info for a file of the tests."""
    text = tool('qemu-img', 'info', '--output=json', '-f', name, path)
    found: dict[str, Any] = json.loads(text)
    return found


class DiskTestCase(base.TestCase):
    """Disks with content, in a folder of their own."""

    def setUp(self) -> None:
        super().setUp()
        self.directory = self.folder()

    def raw(self, name: str = 'base', size: int = SIZE) -> storage.DiskSource:
        """Make a raw file, half full of random data."""
        path = self.directory / name
        path.write_bytes(os.urandom(size // 2) + bytes(size - size // 2))
        return storage.DiskSource('file', 'raw', str(path))

    def overlay(
        self,
        below: storage.DiskSource,
        name: str = 'disk',
        offset: int = MIB,
        records_format: bool = True,
    ) -> storage.DiskSource:
        """Make a qcow2 file with 64 KiB of its own at ``offset``."""
        path = self.directory / name
        tool(
            *('qemu-img', 'create', '-q', '-f', 'qcow2'),
            *('-F', below.format, '-b', below.describe(), path),
        )
        self.write(path, offset)
        if not records_format:
            self.forget_backing_format(path)
        return storage.DiskSource('file', 'qcow2', str(path), below)

    def write(self, path: pathlib.Path, offset: int) -> None:
        """Write as a guest does."""
        command = f'write -P 0x5a {offset} {64 * KIB}'
        tool('qemu-io', '-f', 'qcow2', '-c', command, path)

    def forget_backing_format(self, path: pathlib.Path) -> None:
        """Make it look as if an old qemu-img had made it."""
        content = bytearray(path.read_bytes())
        # The extension for the format of the backing file; another type
        # makes it one that is not known, which readers skip.
        position = content.index(bytes.fromhex('e2792aca'))
        content[position : position + 4] = bytes.fromhex('0badf00d')
        path.write_bytes(content)

    def assert_same_content(
        self, one: storage.DiskSource, other: storage.DiskSource
    ) -> None:
        """Both read the same, whatever they are made of."""
        tool(
            *('qemu-img', 'compare'),
            *(storage.image_name(one), storage.image_name(other)),
        )

    def unknown(self, source: storage.DiskSource) -> storage.DiskSource:
        """Return the disk as libvirt shows it of a shut off guest."""
        return storage.DiskSource(
            source.type, source.format, source.location, is_chain_known=False
        )
