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

"""Access of nova-compute to block devices, such as those of LVM.

Block devices belong to root.  Nova's driver runs qemu-img on them as root;
here nova-compute's user becomes the owner meanwhile, so that qemu-img, which
reads data of a guest, needs no privilege.  libvirt sets the owner of a device
anew when a guest starts.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import os
import pathlib

import nova.privsep.path

from nova_snap import exception
from nova_snap import journal
from nova_snap import undo
from nova_snap.virt.storage import disk_source as storage


@contextlib.contextmanager
def lent(source: storage.DiskSource, entry: journal.Entry) -> Iterator[None]:
    """Make this user the owner of a disk that is a block device."""
    if (
        source.type != 'block'
        or not isinstance(source.location, str)
        or os.access(source.location, os.R_OK)
    ):
        yield
        return
    # A link such as /dev/VG/LV may lead to another device later.
    path = pathlib.Path(source.location).resolve()
    if not path.is_block_device():
        raise exception.UnsafeDisk(
            disk=path, reason='it is no block device, though libvirt says so.'
        )
    with entry.undoing(GiveBack(str(path), uid=path.stat().st_uid)):
        nova.privsep.path.chown(str(path), uid=os.geteuid())
        yield


@dataclasses.dataclass(frozen=True)
class GiveBack(undo.Step, kind='give the block device back'):
    """Make the former owner of a block device its owner again."""

    path: str
    uid: int

    def undo(self, resources: undo.Resources) -> None:
        """Change the owner, if this user still owns the device."""
        path = pathlib.Path(self.path).resolve()
        if path.is_block_device() and path.stat().st_uid == os.geteuid():
            nova.privsep.path.chown(str(path), uid=self.uid)
