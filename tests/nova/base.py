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

"""What the tests share that need Nova, but no cloud.

They run in an environment with a real Nova (``tox -e nova``).  What is stood
in for is libvirt's domain: devices of the host can't be had.
"""

import pathlib
import re
from typing import Any
import uuid

from nova import objects
import nova.conf
from nova.virt import driver as nova_driver
from nova.virt import virtapi
from nova.virt.libvirt import guest as nova_guest

from nova_snap.virt.libvirt import guest as guest_lib
from tests.unit import base
from tests.unit.virt.libvirt import fake_libvirt
from tests.unit.virt.libvirt import samples

CONF = nova.conf.CONF

DRIVER = 'nova_snap.LibvirtDriver'

#: Options that a login once loaded has made obligatory for this process.
OBLIGATORY = ''.join(
    f'[{group}]\nauth_url = http://127.0.0.1:9/v3\n'
    for group in ('service_user', 'glance')
)

MDEV = """\
<hostdev mode='subsystem' type='mdev' managed='no' model='vfio-pci'>
  <source><address uuid='{uuid}'/></source>
</hostdev>"""


class Domain(fake_libvirt.Domain):
    """A domain as Nova calls it, whose guest lets go at once."""

    def _identity(self, xml: str) -> str:
        found = re.search(r"<address uuid=.([-\w]+)", xml)
        return found.group(1) if found else fake_libvirt.pci_slot(xml)

    @property
    def identities(self) -> list[str]:
        """The slots, and uuids of mediated devices, that the guest has."""
        return [self._identity(device) for device in self.devices]

    def XMLDesc(self, flags: int = 0) -> str:  # noqa: N802
        return samples.domain(devices=''.join(self.devices))

    def attachDeviceFlags(self, xml: str, flags: int = 0) -> None:  # noqa: N802
        if self._identity(xml) in self.identities:
            raise fake_libvirt.error(1, 'device already attached')
        self.devices.append(xml)

    def detachDeviceFlags(self, xml: str, flags: int = 0) -> None:  # noqa: N802
        gone = self._identity(xml)
        self.devices = [d for d in self.devices if self._identity(d) != gone]


class NovaTestCase(base.TestCase):
    """With Nova's objects, and a configuration of its own."""

    def setUp(self) -> None:
        super().setUp()
        objects.register_all()
        self.configure()

    def configure(self, text: str = '') -> None:
        """Let this be nova.conf."""
        state = self.folder()
        path = state / 'nova.conf'
        path.write_text(
            f'[DEFAULT]\nstate_path = {state}\n'
            f'{OBLIGATORY}[libvirt]\nvirt_type = qemu\n{text}\n'
        )
        CONF.reset()
        CONF([], project='nova', default_config_files=[str(path)])
        self.addCleanup(CONF.reset)

    @staticmethod
    def driver() -> Any:
        """Load the driver as nova-compute does."""
        return nova_driver.load_compute_driver(virtapi.VirtAPI(), DRIVER)

    @staticmethod
    def instance(**fields: Any) -> objects.Instance:
        """Make an instance that is in no database."""
        return objects.Instance(
            **{
                'uuid': samples.UUID,
                'id': 1,
                'display_name': 'web é漢',
                'project_id': 'p',
                'user_id': 'u',
                'image_ref': str(uuid.UUID(int=1)),
                'kernel_id': '',
                'ramdisk_id': '',
                'os_type': None,
                'flavor': objects.Flavor(
                    name='small', memory_mb=512, vcpus=1, root_gb=3
                ),
                'system_metadata': {},
                'numa_topology': None,
                **fields,
            }
        )

    def guest_of(self, driver: Any, domain: Domain) -> guest_lib.Guest:
        """Our guest for a domain, which the driver gets as Nova's."""
        self.patch(
            driver._host, 'get_guest', lambda _: nova_guest.Guest(domain)
        )
        connection = fake_libvirt.Connection(domain)
        self.patch(fake_libvirt.libvirt, 'open', lambda _uri: connection)
        from nova_snap.virt.libvirt import host

        return guest_lib.Guest(host.Host('fake:///'), samples.UUID, 'web')


def there(path: pathlib.Path) -> int:
    """Return the owner of a file."""
    return path.stat().st_uid
