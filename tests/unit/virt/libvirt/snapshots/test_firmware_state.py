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

"""Where the firmware and the TPM of a guest have their state, and its copy."""

import os
import stat
from unittest import mock

from nova_snap import exception
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt.snapshots import firmware_state
from tests.unit import base

UUID = '6d1bd4c4-6b0d-4c9f-9d4e-2a4b3f5e7c10'
GUEST = mock.Mock(spec=guest_lib.Guest, uuid=UUID)

NVRAM, TPM = firmware_state.NVRAM, firmware_state.TPM

SWTPM = f'/var/lib/libvirt/swtpm/{UUID}'
CHOSEN = '/var/lib/libvirt/qemu/nvram/web_VARS.fd'
LOADER = "<loader type='pflash'>/CODE.fd</loader>"


class TestFiles(base.TestCase):
    def found(self, firmware: str, devices: str = '') -> firmware_state.Files:
        xml = (
            f'<domain><name>web</name>{firmware}'
            f'<devices>{devices}</devices></domain>'
        )
        return firmware_state.files(GUEST, xml)

    def test_variables(self) -> None:
        for firmware, path in (
            ('<os/>', None),
            ("<os firmware='efi'/>", CHOSEN),
            (f"<os>{LOADER}<nvram template='/T'/></os>", CHOSEN),
            (f'<os>{LOADER}<nvram>/a.fd</nvram></os>', '/a.fd'),
            (f"<os>{LOADER}<nvram format='raw'>/a</nvram></os>", '/a'),
            (f"<os>{LOADER}<nvram format='qcow2'>/a</nvram></os>", None),
            (
                f"<os>{LOADER}<nvram type='file'><source file='/a'/></nvram>"
                '</os>',
                '/a',
            ),
            (
                f"<os>{LOADER}<nvram type='network'><source name='a'/>"
                '</nvram></os>',
                None,
            ),
        ):
            self.assertEqual(path, self.found(firmware).get(NVRAM), firmware)

    def test_tpm(self) -> None:
        for backend, path in (
            (
                "type='emulator' version='2.0'/",
                f'{SWTPM}/tpm2/tpm2-00.permall',
            ),
            (
                "type='emulator' version='1.2'/",
                f'{SWTPM}/tpm1.2/tpm-00.permall',
            ),
            ("type='emulator' version='3.0'/", None),
            ("type='passthrough'/", None),
            (
                "type='emulator' version='2.0'><source type='dir' path='/a'/>"
                '</backend',
                None,
            ),
        ):
            found = self.found('<os/>', f'<tpm><backend {backend}></tpm>')
            self.assertEqual(path, found.get(TPM), backend)


class TestWrite(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.place = self.folder()
        self.path = self.place / 'a_VARS.fd'
        self.files = {NVRAM: str(self.path)}

    def test_there_and_back(self) -> None:
        self.path.write_bytes(b'first')
        self.path.chmod(0o640)
        state = firmware_state.read(self.files)
        self.path.write_bytes(b'second')
        firmware_state.write(self.files, state)
        self.assertEqual(b'first', self.path.read_bytes())
        self.assertEqual(0o640, stat.S_IMODE(self.path.stat().st_mode))
        self.assertEqual([self.path], list(self.place.iterdir()))

    def test_what_a_killed_process_has_left(self) -> None:
        self.path.write_bytes(b'first')
        (self.place / '.a_VARS.fd.nova-snap').write_bytes(b'fir')
        firmware_state.write(self.files, firmware_state.read(self.files))
        self.assertEqual([self.path], list(self.place.iterdir()))

    def test_same_content_is_not_written(self) -> None:
        self.path.write_bytes(b'first')
        before = self.path.stat().st_ino
        firmware_state.write(self.files, firmware_state.read(self.files))
        self.assertEqual(before, self.path.stat().st_ino)

    def test_file_that_has_gone(self) -> None:
        self.path.write_bytes(b'first')
        state = firmware_state.read(self.files)
        self.path.unlink()
        firmware_state.write(self.files, state)
        self.assertEqual(b'first', self.path.read_bytes())
        self.assertEqual(0o600, stat.S_IMODE(self.path.stat().st_mode))

    def test_what_can_not_be_read_is_left_out(self) -> None:
        self.assertEqual({}, firmware_state.read(self.files))
        (self.place / 'target').write_bytes(b'secret')
        self.path.symlink_to(self.place / 'target')
        self.assertEqual({}, firmware_state.read(self.files))
        self.path.unlink()
        os.mkfifo(self.path)
        self.assertEqual({}, firmware_state.read(self.files))
        self.path.unlink()
        with self.path.open('wb') as file:
            file.truncate(firmware_state.MAX_SIZE + 1)
        self.assertEqual({}, firmware_state.read(self.files))

    def test_folder_that_has_gone(self) -> None:
        self.path.write_bytes(b'first')
        state = firmware_state.read(self.files)
        files = {NVRAM: str(self.place / 'gone' / 'a')}
        error = self.assertRaises(
            exception.SnapshotFailed, firmware_state.write, files, state
        )
        self.assertIn(files[NVRAM], str(error))


class TestStore(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.place = self.folder() / 'firmware'
        self.store = firmware_state.Store(self.place)
        self.state = {NVRAM: 'YQ=='}

    def test_one_that_is_taken(self) -> None:
        self.store.keep(GUEST, 'a.b', self.state)
        self.assertEqual({}, self.store.find(GUEST, 'a.b', 5))
        self.store.complete(GUEST, 'a.b', 5)
        self.assertEqual(self.state, self.store.find(GUEST, 'a.b', 5))
        # Another one of the same name.
        self.assertEqual({}, self.store.find(GUEST, 'a.b', 6))
        self.store.complete(GUEST, 'a.b', 6)
        self.assertEqual(self.state, self.store.find(GUEST, 'a.b', 5))
        (path,) = self.place.glob('*/*')
        self.assertEqual(0o600, stat.S_IMODE(path.stat().st_mode))
        self.assertEqual(0o700, stat.S_IMODE(path.parent.stat().st_mode))

    def test_pruned(self) -> None:
        for name in 'abc':
            self.store.keep(GUEST, name, self.state)
        for name in 'ab':
            self.store.complete(GUEST, name, 5)
        self.store.prune(GUEST, {'a': 5, 'b': 6, 'c': 5})
        self.assertEqual(
            ['a.json'], [path.name for path in self.place.glob('*/*')]
        )
        self.store.prune(GUEST, {})
        self.assertEqual([], list(self.place.iterdir()))
        self.store.prune(GUEST, {})

    def test_broken_file(self) -> None:
        self.store.keep(GUEST, 'a', self.state)
        (path,) = self.place.glob('*/*')
        path.write_text('{')
        self.assertEqual({}, self.store.find(GUEST, 'a', 5))
        self.store.prune(GUEST, {'a': 5})
        self.assertEqual([], list(self.place.iterdir()))

    def test_folder_that_can_not_be_made(self) -> None:
        self.place.write_text('')
        error = self.assertRaises(
            exception.SnapshotFailed,
            *(self.store.keep, GUEST, 'a', self.state),
        )
        self.assertIn(str(self.place), str(error))
