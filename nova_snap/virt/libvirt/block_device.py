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

"""A disk of a guest and the block job on it."""

import dataclasses
import pathlib
from typing import Any

import libvirt

from nova_snap import exception
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt import events
from nova_snap.virt.libvirt import guest as guest_lib

#: Errors of blockJobAbort if there is no job (libvirt 9.0:
#: VIR_ERR_OPERATION_INVALID, "disk vda does not have an active block job").
_NO_JOB_CODES = {
    libvirt.VIR_ERR_OPERATION_INVALID,
    libvirt.VIR_ERR_INVALID_ARG,
}

#: Errors if libvirt supports no block jobs, on this disk or at all.
_UNSUPPORTED_CODES = {
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
    libvirt.VIR_ERR_NO_SUPPORT,
}


@dataclasses.dataclass(frozen=True)
class BlockJob:
    """Progress of a job as QEMU counts it: bytes done, and in all."""

    cur: int
    end: int


class BlockDevice:
    """One disk of a guest, by its target name.

    Methods raise as those of :class:`~.guest.Guest` do.
    """

    def __init__(self, guest: guest_lib.Guest, device: str) -> None:
        self._guest = guest
        self.device = device

    def virtual_size(self) -> int:
        """Return the size that the guest sees, in bytes.

        libvirt reads the size by the format that the XML names.
        """
        return self._info()[0]

    def allocation(self) -> int:
        """Return the bytes that the topmost layer takes on the host."""
        return self._info()[1]

    def _info(self) -> tuple[int, int]:
        capacity, allocation, _physical = self._guest.call(
            f'read the size of its disk {self.device}',
            lambda domain: domain.blockInfo(self.device),
            insist=True,
        )
        return int(capacity), int(allocation)

    def supports_block_jobs(self) -> bool:
        """Return True if libvirt supports block jobs on this disk.

        Only the error VIR_ERR_CONFIG_UNSUPPORTED means that it does not.
        """
        try:
            self.job()
        except exception.HypervisorError as error:
            return bool(error.code != libvirt.VIR_ERR_CONFIG_UNSUPPORTED)
        return True

    def job(self) -> BlockJob | None:
        """Return the job on this disk, or None."""
        info: dict[str, Any] | None = self._guest.call(
            f'read the block job of its disk {self.device}',
            lambda domain: domain.blockJobInfo(
                self.device, libvirt.VIR_DOMAIN_BLOCK_JOB_INFO_BANDWIDTH_BYTES
            ),
            insist=True,
        )
        return BlockJob(cur=info['cur'], end=info['end']) if info else None

    def mirror(self) -> disk_xml.Mirror | None:
        """Return the mirror that the live XML shows on this disk."""
        return disk_xml.mirror(self._guest.xml(), self.device)

    def require_no_foreign_job(self, directory: pathlib.Path) -> None:
        """Raise if another program's job runs on this disk.

        :param directory: a copy to a folder in it is ours.
        :raises BlockJobRunning: another program's job runs on the disk.
        """
        try:
            if self.job() is None:
                return
        except exception.HypervisorError as error:
            if error.code in _UNSUPPORTED_CODES:
                return
            raise
        mirror = self.mirror()
        target = None if mirror is None else mirror.target
        if target is None or pathlib.Path(target).parent.parent != directory:
            raise exception.BlockJobRunning(
                disk=self.device, server=self._guest.uuid
            )

    def rebase(self, target: str) -> None:
        """Begin to copy the data of the topmost layer into ``target``.

        The target exists and has the backing file that this disk has.  The
        guest has to be transient: libvirt copies no disk of a persistent one.
        """
        self._guest.host.events.forget_block_job(self._guest.uuid, self.device)
        flags = (
            libvirt.VIR_DOMAIN_BLOCK_REBASE_COPY
            | libvirt.VIR_DOMAIN_BLOCK_REBASE_REUSE_EXT
            | libvirt.VIR_DOMAIN_BLOCK_REBASE_SHALLOW
        )
        self._guest.call(
            'copy its root disk',
            lambda domain: domain.blockRebase(self.device, target, 0, flags),
        )

    def abort_job(self) -> bool:
        """End the job, without a pivot; return True if there was one.

        Returns when the job has ended (libvirt's synchronous mode).  The call
        is retried if libvirtd is gone.

        :raises HypervisorError: libvirt could not end the job; code
            VIR_ERR_CONFIG_UNSUPPORTED: libvirt supports no block jobs.
        """
        try:
            self._guest.call(
                f'end the block job of its disk {self.device}',
                lambda domain: domain.blockJobAbort(self.device, 0),
                insist=True,
            )
        except exception.HypervisorError as error:
            if error.code in _NO_JOB_CODES:
                return False
            raise
        return True

    def ended_status(self) -> events.BlockJobStatus | None:
        """Return how the newest job ended, if its event has arrived."""
        return self._guest.host.events.block_job(self._guest.uuid, self.device)
