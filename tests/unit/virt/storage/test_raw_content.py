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


"""What a raw disk may begin with when nobody else inspects its image."""

import os

from nova_snap.virt.storage import raw_content
from tests.functional import test_content_hostile
from tests.lab import command
from tests.unit import base

SIZE = 256 * 1024


class RequireTest(base.TestCase):
    """Refused or not."""

    def refused(self, data: bytes) -> str:
        error = self.assertRaises(
            raw_content.NotRaw, raw_content.require, data.ljust(SIZE, b'\0')
        )
        return str(error)

    def test_raw(self) -> None:
        for data in (b'', bytes(SIZE), b'text', b'# only\n# comments\n'):
            raw_content.require(data)
        raw_content.require(os.urandom(SIZE))

    def test_disks(self) -> None:
        file = self.folder() / 'disk'
        for label in ('dos', 'gpt'):
            with self.subTest(label), open(file, 'wb') as disk:
                disk.truncate(64 << 20)
                command.run(
                    *('sfdisk', '--quiet', file), stdin=f'label: {label}\n,\n'
                )
                raw_content.require(file.read_bytes()[:SIZE])

    def test_headers(self) -> None:
        for kind, header in test_content_hostile.HEADERS.items():
            with self.subTest(kind):
                self.assertIn('begins as', self.refused(header(64 << 20)))

    def test_qemu_s_own(self) -> None:
        """Each format that QEMU makes and may follow to another file."""
        file = self.folder() / 'image'
        for kind in ('qcow2', 'qcow', 'vmdk', 'qed', 'vdi', 'vhdx', 'vpc'):
            with self.subTest(kind):
                command.run('qemu-img', 'create', '-f', kind, file, '64M')
                self.refused(file.read_bytes()[:SIZE])

    def test_text_of_vmdk(self) -> None:
        text = b'\n# Disk DescriptorFile\nversion=1\nCID=0\n'
        self.assertIn('VMDK', self.refused(text))
