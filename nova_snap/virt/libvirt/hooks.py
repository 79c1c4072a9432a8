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

from collections.abc import Iterator
import contextlib
import pathlib

from nova_snap import exception
from nova_snap import journal
from nova_snap import this_host
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import root_disk
from nova_snap.virt.storage import disk_source as storage
from nova_snap.virt.storage import locality


class Hooks:
    """The hooks of a host where no program owns the guests.

    :param is_none_moved: somebody has made sure that no guest was moved to
        another host while this one was down.
    """

    def __init__(self, is_none_moved: bool = False) -> None:
        self._is_none_moved = is_none_moved

    def is_being_deleted(self, instance_uuid: str) -> bool:
        """Return True if the guest is being deleted; don't define it again."""
        return False

    def has_moved(
        self, instance_uuid: str, origin: this_host.Origin, xml: str
    ) -> bool:
        """Return True if a guest that does not run here belongs to others now.

        Asked by a recovery, before it defines or starts the guest.

        :param origin: of the operation that was interrupted.
        :param xml: of the guest.
        :raises MayHaveMoved: that is not known.
        """
        is_same_boot = origin.boot is not None and (
            origin.boot == this_host.boot_id()
        )
        if is_same_boot or self._is_none_moved:
            return False
        for disk in _reachable_by_others(xml):
            raise exception.MayHaveMoved(
                server=instance_uuid,
                reason='this host was restarted since its snapshot began, '
                f'and other hosts may reach its disk {disk}. Make sure that '
                'it runs on none of them, then run "nova-snap recover '
                '--none-moved".',
            )
        return False

    def has_to_run(self, instance_uuid: str) -> bool:
        """Return True if a saved guest has to be started by a recovery."""
        return True

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


def _reachable_by_others(xml: str) -> Iterator[str]:
    """Yield the disks that another host may be able to write to."""
    for disk in root_disk.hard_disks(disk_xml.disks(xml)):
        source = disk.readable
        if disk.is_readonly:
            continue
        if (
            source is None
            or not isinstance(source.location, str)
            or not locality.is_local(source.location)
        ):
            yield disk.device


NONE = Hooks()
