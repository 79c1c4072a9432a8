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

"""The undo step of a mirror, which removes or keeps the delta.

A delta is a copy of the guest's disk, and is removed if the snapshot fails.
But another program may have ended the copy with a pivot; then the guest has
written to the delta since, and libvirt names it in the guest's definition.
Open this file to change how the two cases are told apart.
"""

import dataclasses
import pathlib
from typing import Self

from oslo_log import log as logging

from nova_snap import exception
from nova_snap import undo
from nova_snap.virt.libvirt import block_device
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import events
from nova_snap.virt.libvirt import guest as guest_lib

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class EndMirror(undo.Step, kind='end the block job'):
    """End the block job that copies a disk to a delta.

    :ivar device: name of the disk in the guest.
    :ivar target: path of the delta.
    :ivar run: what :meth:`.guest.Guest.run` returned when the job began.
    """

    device: str
    target: str
    run: str | None = None
    #: Of the connection on which this process hears how the job ends.
    generation: int | None = dataclasses.field(
        default=None, metadata=undo.VOLATILE
    )

    @classmethod
    def from_data(cls, data: undo.Data) -> Self:
        """Make the step, also from an entry that names the disk."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{key: data[key] for key in known & data.keys()})

    def undo(self, resources: undo.Resources) -> None:
        """End the job, and keep a delta that another program has pivoted to.

        :raises UnsafeDisk: the guest writes to the delta, or will when it
            starts.
        """
        guest = resources.get(guest_lib.Guest)
        run = guest.run()
        if run is not None and self._is_ended(guest, run):
            return
        if user := next(guest.host.users_of(self.target), None):
            raise exception.UnsafeDisk(
                disk=self.target,
                reason=f'another program has made server {user} write to it; '
                'copy it back with "virsh blockcopy --pivot" before the '
                'server is shut off.',
            )
        if not (self._is_known_to_have_failed(guest) or guest.is_defined()):
            self._keep(guest)

    def _is_ended(self, guest: guest_lib.Guest, run: str) -> bool:
        """End the job if it runs; return True if the guest has left the delta.

        The guest may not be defined yet, so nothing is asked that is not
        needed.
        """
        try:
            xml = guest.xml()
        except exception.GuestGone:
            return False  # the guest stopped just now, and the job with it
        mirror = disk_xml.mirror(xml, self.device)
        if mirror is not None and mirror.target == self.target:
            block_device.BlockDevice(guest, self.device).abort_job()
            return True
        return run == self.run and not domain_xml.names(xml, self.target)

    def _is_known_to_have_failed(self, guest: guest_lib.Guest) -> bool:
        """Return True if this process knows that there was no pivot.

        libvirt says at once when a job is completed by a pivot.
        """
        host = guest.host
        return (
            self.generation == host.generation
            and host.events.block_job(guest.uuid, self.device)
            is not events.BlockJobStatus.COMPLETED
        )

    def _keep(self, guest: guest_lib.Guest) -> None:
        """Keep a delta that may have data which the disk has not.

        The guest has been shut off since the job began, and has no definition
        that tells which of the two it used.
        """
        delta = pathlib.Path(self.target)
        if not delta.exists():
            return
        kept = delta.parent.parent / f'kept-{delta.name}'
        delta.rename(kept)
        LOG.error(
            'Nothing tells whether another program ended the copy of disk '
            '%(disk)s of server %(server)s with a pivot before the server was '
            'shut off. If it did, the server has written to the copy, and '
            'only the copy has that data. It is kept as %(kept)s: use it or '
            'remove it.',
            {
                'disk': self.device,
                'server': guest.uuid,
                'kept': kept,
            },
            instance_uuid=guest.uuid,
        )
