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

"""A libvirt whose guest has a real disk and can be copied live.

It adds definitions and block jobs to ``fake_libvirt.py``; the copy is made by
the real qemu-img, as fast as it can.
"""

import pathlib
import subprocess
from typing import Any

import libvirt

from tests.unit.virt.libvirt import fake_libvirt
from tests.unit.virt.libvirt import samples

#: QEMU 7.2.0 and libvirt 9.0.0.
QEMU_VERSION = 7_002_000
LIBVIRT_VERSION = 9_000_000

#: Methods that the operations on a guest call.
METHODS = (
    *('XMLDesc', 'ID', 'state', 'isPersistent', 'isActive', 'snapshotNum'),
    *('listAllCheckpoints', 'autostart', 'setAutostart', 'undefineFlags'),
    *('blockInfo', 'blockJobInfo', 'blockRebase', 'blockJobAbort'),
    *('backupGetXMLDesc', 'jobStats', 'ping', 'freeze_status', 'fs_freeze'),
    *('fs_thaw', 'managedSave', 'hasManagedSaveImage'),
    'createWithFlags',
)


class Domain(fake_libvirt.Domain):
    """A running guest with a raw disk in a file."""

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__()
        self.is_defined = True
        self.starts_with_host = True
        self.target: str | None = None
        self._path = path

    @property
    def is_untouched(self) -> bool:
        """True if the guest is as it was."""
        return (
            self.state_now == libvirt.VIR_DOMAIN_RUNNING
            and self.is_defined
            and self.starts_with_host
            and self.target is None
            and not self.is_frozen
            and not self.is_saved
        )

    def name(self) -> str:
        return samples.NAME

    def isPersistent(self) -> int:  # noqa: N802
        return int(self.is_defined)

    def autostart(self) -> int:
        return int(self.starts_with_host)

    def setAutostart(self, value: int) -> None:  # noqa: N802
        self.starts_with_host = bool(value)

    def undefineFlags(self, _flags: int) -> None:  # noqa: N802
        self.is_defined = self.starts_with_host = False

    def XMLDesc(self, _flags: int = 0) -> str:  # noqa: N802
        mirror = ''
        if self.target is not None:
            mirror = (
                f"<mirror type='file' job='copy' ready='yes'>"
                f"<source file='{self.target}'/></mirror>"
            )
        self._disk = samples.raw_disk(str(self._path)).replace(
            '<backingStore/>', '<backingStore/>' + mirror
        )
        return super().XMLDesc()

    def blockInfo(self, _device: str) -> list[int]:  # noqa: N802
        size = self._path.stat().st_size
        return [size, size, size]

    def blockJobInfo(  # noqa: N802
        self, _device: str, _flags: int
    ) -> dict[str, int]:
        return {} if self.target is None else {'cur': 1, 'end': 1}

    def blockRebase(  # noqa: N802
        self, _device: str, target: str, _bandwidth: int, _flags: int
    ) -> None:
        """Copy the disk; libvirt does that for transient guests only."""
        if self.is_defined:
            raise fake_libvirt.error(
                libvirt.VIR_ERR_OPERATION_INVALID, 'domain is not transient'
            )
        argv = ['qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'qcow2']
        subprocess.run([*argv, str(self._path), target], check=True)
        self.target = target

    def blockJobAbort(self, device: str, _flags: int) -> None:  # noqa: N802
        if self.target is None:
            raise fake_libvirt.error(
                libvirt.VIR_ERR_INVALID_ARG, 'no block job on the disk'
            )
        self.target = None
        tell = self.events[libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2]
        kind = libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY
        status = libvirt.VIR_DOMAIN_BLOCK_JOB_CANCELED
        tell(None, self, device, kind, status, None)


class Connection(fake_libvirt.Connection):
    """A connection to a host with one such guest."""

    def __init__(self, domain: Domain) -> None:
        super().__init__(domain)
        self._copied = domain

    def getVersion(self) -> int:  # noqa: N802
        return QEMU_VERSION

    def getLibVersion(self) -> int:  # noqa: N802
        return LIBVIRT_VERSION

    def listAllDomains(self) -> list[Any]:  # noqa: N802
        return [self._copied]

    def defineXML(self, _xml: str) -> None:  # noqa: N802
        self._copied.is_defined = True
