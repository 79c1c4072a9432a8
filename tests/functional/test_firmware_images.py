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

"""Images of guests with UEFI firmware and a TPM that become guests again."""

import dataclasses
import pathlib

from tests.functional import test_boot
from tests.functional import test_rebuild
from tests.lab import exhaustive
from tests.lab import firmware as firmware_lib
from tests.lab import guest as guest_lib
from tests.lab import root_disk

IMAGE, LIKE, WRITTEN = 'the image', 'a server', 'a file'

#: Where the hardware of the new guest is from.
SOURCES = exhaustive.choose((IMAGE, LIKE, WRITTEN), (IMAGE, LIKE))


class TestBoot(test_boot.BootTestCase):
    """New guests have variables and a TPM of their own."""

    def source(self) -> guest_lib.Guest:
        """Return a guest for which libvirt has made the files."""
        guest = self.make_guest(
            start=False, kind=root_disk.Kind.QCOW2, uefi=True, tpm=True
        )
        firmware_lib.start_once(guest)
        return guest

    def files(self) -> set[pathlib.Path]:
        """Return the files of the variables and the TPMs of all guests."""
        lib = self.libvirtd.state / 'libvirt/lib'
        folders = lib / 'qemu/nvram', lib / 'swtpm'
        return {
            path
            for folder in folders
            for path in folder.rglob('*')
            if path.is_file()
        }

    def test_its_own(self) -> None:
        guest = self.source()
        firmware = firmware_lib.Firmware(guest, self.libvirtd.state)
        before = firmware.content()
        image = self.image_create(guest)
        for source in SOURCES:
            with self.subTest(source):
                self.name = f'{self.name}-1'
                options = {
                    IMAGE: ('--network', 'none'),
                    LIKE: ('--like', guest.uuid),
                    WRITTEN: (
                        '--definition',
                        str(self.definition(guest.spec)),
                    ),
                }[source]
                new = self.boot(image, *options)
                self.assertEqual('running', new.state())
                new.suspend()
                new.spec = dataclasses.replace(new.spec, uefi=True, tpm=True)
                found = firmware_lib.Firmware(new, self.libvirtd.state)
                self.assertNotEqual(firmware.nvram, found.nvram)
                self.assertNotEqual(firmware.tpm, found.tpm)
                self.assertNotEqual(before[1], found.content()[1])
                self.assertEqual(before, firmware.content())
                new.remove()
                for path in self.disks.iterdir():
                    path.unlink()
        self.assert_no_guest()

    def test_guest_that_cannot_be_started(self) -> None:
        guest = self.source()
        image = self.image_create(guest)
        before = self.files()
        network = "<interface type='network'><source network='gone'/>"
        spec = dataclasses.replace(
            guest.spec, devices_xml=f'{network}</interface>'
        )
        path = str(self.definition(spec))
        self.assert_refused(1, 'start it', image, '--definition', path)
        self.assertEqual(before, self.files())


class TestBootWithFilesOfLibvirt(test_boot.BootTestCase):
    """The command sees the files as libvirtd does."""

    def command(self, *arguments: str) -> list[str]:
        """Return a command line that runs where libvirtd has its files."""
        return firmware_lib.beside(self.libvirtd, super().command(*arguments))

    def test_variables_of_an_earlier_server(self) -> None:
        guest = self.make_guest(
            start=False, kind=root_disk.Kind.QCOW2, uefi=True
        )
        image = self.image_create(guest)
        folder = self.libvirtd.state / 'libvirt/lib/qemu/nvram'
        path = folder / f'{self.name}_VARS.fd'
        path.write_text('of another one')
        self.addCleanup(path.unlink)
        self.assert_refused(4, path.name, image, '--like', guest.uuid)
        self.assertEqual('of another one', path.read_text())


class TestRebuild(test_rebuild.RebuildTestCase):
    """Guests keep their variables and their TPM."""

    def test_stopped_and_undone(self) -> None:
        guest = self.own_guest(start=False, uefi=True, tpm=True)
        firmware_lib.start_once(guest)
        firmware = firmware_lib.Firmware(guest, self.libvirtd.state)
        found = firmware.content(), firmware.owners()
        xml = guest.inactive_xml()
        for words in ((self.image(),), ('--undo',)):
            self.rebuild(guest, *words)
            self.assertEqual(found, (firmware.content(), firmware.owners()))
            firmware_lib.start_once(guest)
            self.assertEqual(found, (firmware.content(), firmware.owners()))
        self.assertEqual(
            firmware_lib.elements(xml),
            firmware_lib.elements(guest.inactive_xml()),
        )
        self.assert_nothing_left()


@exhaustive.usually()
class TestRebuildRunning(test_rebuild.RebuildTestCase):
    """The guest itself finds what it has stored."""

    def test_running_and_undone(self) -> None:
        guest = self.own_guest(agent=True, wait=True, uefi=True, tpm=True)
        firmware = firmware_lib.Firmware(guest, self.libvirtd.state)
        firmware.store(1)
        for words in ((self.image(),), ('--undo',)):
            self.rebuild(guest, *words)
            guest.wait_until_up()
            self.assertEqual({1}, firmware.asked())
            self.assertEqual({1}, firmware.stored())
        self.assert_nothing_left()
