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
that starts them, attaches devices and deletes them.  The class here is used
where there is no such program.
"""

import contextlib
import pathlib

from nova_snap import journal
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.storage import disk_source as storage


class Hooks:
    """The hooks of a host where no program owns the guests."""

    def is_being_deleted(self, instance_uuid: str) -> bool:
        """Return True if the guest is being deleted; don't define it again."""
        return False

    def take_back(self, path: pathlib.Path) -> None:
        """Make this user the owner of a file again that QEMU has used.

        libvirt does so itself with ``remember_owner = 1`` in its qemu.conf,
        the default since 5.0 on file systems with extended attributes.

        :raises NovaSnapError: the owner can't be changed.
        """

    def reading(
        self, source: storage.DiskSource, entry: journal.Entry
    ) -> contextlib.AbstractContextManager[None]:
        """Let this process read a disk for the length of a block."""
        return contextlib.nullcontext()

    def prepare_start(self, instance_uuid: str) -> None:
        """Prepare the host before a saved guest is started again."""

    def without_devices(
        self, guest: guest_lib.Guest, entry: journal.Entry
    ) -> contextlib.AbstractContextManager[None] | None:
        """Detach the host's devices for a block, and attach them again.

        :returns: None if the pipeline shall do so by libvirt alone.
        """
        return None


NONE = Hooks()
