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

"""Hooks for a program, such as nova-compute, that owns the guests.

Open this file to run the pipelines inside a program that manages the guests:
that starts them, gives devices to them and deletes them.  The class here is
what happens where there is no such program.
"""

import contextlib
import pathlib

from nova_snap import journal
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.storage import disk_source as storage


class Hooks:
    """The hooks where libvirt alone looks after the guests."""

    def is_being_deleted(self, instance_uuid: str) -> bool:
        """Return True if the guest is being deleted and must not come back."""
        return False

    def take_back(self, path: pathlib.Path) -> None:
        """Make a file ours again that libvirt gave to QEMU for a while.

        libvirt does that itself with ``remember_owner = 1`` in its qemu.conf,
        the default since 5.0 on file systems with extended attributes.

        :raises NovaSnapError: the file stays QEMU's.
        """

    def reading(
        self, source: storage.DiskSource, entry: journal.Entry
    ) -> contextlib.AbstractContextManager[None]:
        """Let this process read a disk for the length of a block."""
        return contextlib.nullcontext()

    def prepare_start(self, instance_uuid: str) -> None:
        """Do what has to be done before a saved guest is started again."""

    def without_devices(
        self, guest: guest_lib.Guest, entry: journal.Entry
    ) -> contextlib.AbstractContextManager[None] | None:
        """Take the host's devices from a guest, and give them back.

        :returns: None where the pipeline shall do it by libvirt alone.
        """
        return None


NONE = Hooks()
