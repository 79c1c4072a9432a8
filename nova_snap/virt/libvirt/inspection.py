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

"""One reading of a guest's state, from which a plan is made.

State that may change before the plan is followed is read again then.
"""

import dataclasses

from nova_snap import exception
from nova_snap.objects import power_state
from nova_snap.virt.libvirt import backup_job
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import host as host_lib


@dataclasses.dataclass(frozen=True)
class Inspection:
    """A guest at one moment; ``xml`` is the live one of a running guest.

    ``has_backup_job`` is True if any backup job runs, ``has_metadata`` if the
    guest has libvirt snapshots or checkpoints, ``has_saved_memory`` if it
    runs, and libvirt keeps its memory of an earlier run.
    """

    guest: guest_lib.Guest
    xml: str = dataclasses.field(repr=False)
    disks: tuple[disk_xml.Disk, ...]
    power_state: power_state.PowerState
    is_persistent: bool
    has_backup_job: bool
    has_metadata: bool
    has_saved_memory: bool


def volume_finder(host: host_lib.Host) -> disk_xml.VolumeFinder:
    """Return a function that finds volumes of a host's storage pools."""

    def find(volume: disk_xml.Volume) -> tuple[str, str]:
        try:
            kind, path = host.storage_volume(volume.pool, volume.name)
        except exception.HypervisorError as error:
            raise disk_xml.Unsupported(str(error)) from error
        if not kind:
            raise disk_xml.Unsupported(
                f'it is volume {volume.name} of storage pool {volume.pool}, '
                'which is neither a file nor a block device.'
            )
        return kind, path

    return find


def inspect(guest: guest_lib.Guest) -> Inspection:
    """Read a guest once.

    :raises GuestGone: the guest does not exist.
    """
    state = guest.power_state()
    xml = guest.xml()
    return Inspection(
        guest=guest,
        xml=xml,
        disks=disk_xml.disks(xml, volume_finder(guest.host)),
        power_state=state,
        is_persistent=guest.is_persistent(),
        has_backup_job=state.is_active and backup_job.is_running(guest),
        has_metadata=guest.has_metadata(),
        has_saved_memory=state.is_active
        and guest.saved_memory() is guest_lib.SavedMemory.WHOLE,
    )
