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

"""What is looked for before a guest is suspended; the rest has real guests."""

import pathlib

from nova_snap import exception
from nova_snap.virt.libvirt import requirements
from tests.unit.virt.libvirt import base
from tests.unit.virt.libvirt import fake_libvirt
from tests.unit.virt.libvirt import samples

INTERFACE = "<interface type='{0}'><source {1}='{2}'/></interface>"


class RequireTest(base.GuestTestCase):
    """Guests by their XML, files and interfaces of this host."""

    def missing(self, *disks: str, devices: str = '') -> str:
        """Return the error, or '' where the guest could start again."""
        guest = self.use(fake_libvirt.Domain())
        xml = samples.domain(*disks, devices=devices)
        try:
            requirements.require(guest, xml)
        except exception.UnsupportedGuest as error:
            return str(error)
        return ''

    def test_each_layer_of_a_disk(self) -> None:
        here = self.disk_with(b'x')
        for lost in ('/lost/top', '/lost/base'):
            disk = samples.disk(
                f"<source file='{lost if 'top' in lost else here}'/>",
                inside=samples.backing(
                    lost if 'base' in lost else str(here), 'raw'
                ),
            )
            self.assertIn(lost, self.missing(disk))
        whole = samples.disk(
            f"<source file='{here}'/>",
            inside=samples.backing(str(here), 'raw'),
        )
        self.assertEqual('', self.missing(whole))

    def test_everything_that_is_missing_is_named(self) -> None:
        said = self.missing(samples.raw_disk('/lost/a'), samples.FLOPPY)
        self.assertIn('/lost/a', said)
        self.assertIn('/srv/driver.img', said)

    def test_below_a_file_that_is_no_directory(self) -> None:
        path = pathlib.Path(self.disk_with(b'x')) / 'below'
        self.assertIn(str(path), self.missing(samples.raw_disk(str(path))))

    def test_empty_drive(self) -> None:
        self.assertEqual('', self.missing(samples.EMPTY_CDROM))

    def test_interfaces_of_the_host(self) -> None:
        for kind, attribute in (('bridge', 'bridge'), ('direct', 'dev')):
            there = INTERFACE.format(kind, attribute, 'lo')
            self.assertEqual('', self.missing(devices=there))
            gone = INTERFACE.format(kind, attribute, 'nosuch0')
            self.assertIn('nosuch0', self.missing(devices=gone))

    def test_shared_directory(self) -> None:
        folder = (
            "<filesystem type='mount'><source dir='/lost/dir'/></filesystem>"
        )
        self.assertIn('/lost/dir', self.missing(devices=folder))
