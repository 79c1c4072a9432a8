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
"""All that is known of an instance and its guest, as plain data."""

import dataclasses
import datetime

from nova_snap.objects import instance as instance_lib
from nova_snap.objects import power_state as power_state_lib
from nova_snap.objects import vm_state as vm_state_lib


@dataclasses.dataclass(frozen=True)
class Address:
    """An IP address of an instance.

    ``network`` is the name of the network or bridge that the interface is
    connected to, ``kind`` is ``fixed`` or ``floating``.
    """

    network: str
    address: str
    version: int
    mac: str
    kind: str = 'fixed'


@dataclasses.dataclass(frozen=True)
class InstanceDetails:
    """An instance and its guest, from one reading.

    :ivar domain_name: libvirt's name of the guest.
    :ivar flavor: that of the instance, or else one made from the guest.
    :ivar is_saved: libvirt has the memory of the guest in a file.
    :ivar is_of_nova: Nova has written its metadata into the guest.
    :ivar created_at: None if it is not known, as ``updated_at``.
    :ivar volumes: ids of the volumes of Cinder that are attached.
    :ivar root_device: name of the root disk in the guest, such as
        ``/dev/vda``.
    :ivar image_id: of the image that its disks were made of on this host.
    """

    instance: instance_lib.Instance
    domain_name: str
    flavor: instance_lib.Flavor
    power_state: power_state_lib.PowerState
    is_saved: bool = False
    is_of_nova: bool = False
    created_at: datetime.datetime | None = None
    updated_at: datetime.datetime | None = None
    description: str | None = None
    addresses: tuple[Address, ...] = ()
    volumes: tuple[str, ...] = ()
    root_device: str | None = None
    has_config_drive: bool = False
    image_id: str | None = None

    @property
    def vm_state(self) -> vm_state_lib.VmState | None:
        """Nova's vm state of such an instance, None if it is not known."""
        return vm_state_lib.VmState.of_guest(self.power_state, self.is_saved)

    @property
    def flavor_id(self) -> str:
        """The id of the flavor; its name, where Nova has written no id."""
        return self.flavor.id or self.flavor.name
