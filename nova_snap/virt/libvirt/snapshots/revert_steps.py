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

"""The undo steps of going back to a domain snapshot in files of its own.

Open this file for what becomes of a guest if a revert fails, or if its process
ends; the revert itself is in ``revert.py``.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import os
import pathlib
from typing import Any

from oslo_log import log as logging

from nova_snap import exception
from nova_snap import undo
from nova_snap.objects import power_state
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import inspection
from nova_snap.virt.libvirt import undo_steps
from nova_snap.virt.libvirt.snapshots import calls
from nova_snap.virt.libvirt.snapshots import firmware_state
from nova_snap.virt.libvirt.snapshots import merging
from nova_snap.virt.libvirt.snapshots import usage
from nova_snap.virt.storage import backing_chain

LOG = logging.getLogger(__name__)

#: What a guest is, before and after.
RUNNING, PAUSED, OFF = 'running', 'paused', 'off'

STATES = {
    power_state.PowerState.RUNNING: RUNNING,
    power_state.PowerState.PAUSED: PAUSED,
    power_state.PowerState.SHUTDOWN: OFF,
}

#: Seconds after its memory was written in which a disk may have been closed.
CLOSING = 1


@dataclasses.dataclass(frozen=True)
class FinishRevert(undo.Step, kind='remove the state before a revert'):
    """Remove what a guest was before a revert; it has been seen to start.

    :ivar becomes: what the guest is to be; :data:`RUNNING`, etc.
    :ivar memory: the file of the memory that it had.
    :ivar overlays: the new files.
    :ivar left: the files that it wrote to, and that nothing needs once it has
        gone; fields of :class:`.usage.Layer`.
    """

    becomes: str
    memory: str
    overlays: Sequence[str]
    left: Sequence[Mapping[str, Any]]

    def undo(self, resources: undo.Resources) -> None:
        """Switch a guest off that is to be off, and remove what it left.

        :raises NovaSnapError: that is not possible.
        """
        guest = resources.get(guest_lib.Guest)
        try:
            if not undo_steps.has_left(guest, resources, guest.xml):
                self.finish(guest, resources.get(backing_chain.Reader))
        except exception.GuestGone:
            self.forget_memory()

    def finish(
        self, guest: guest_lib.Guest, reader: backing_chain.Reader
    ) -> None:
        """Do the same for a guest that is this host's."""
        # The start of one that is to be off was to see whether it is possible.
        if (
            self.becomes == OFF
            and guest.power_state() is power_state.PowerState.PAUSED
            and names_any(guest.xml(), self.overlays)
        ):
            guest.destroy()
        self.forget_memory()
        for data in self.left:
            merging.remove_leftover(guest, reader, usage.Layer.from_data(data))

    def forget_memory(self) -> None:
        """Remove the memory that the guest had."""
        pathlib.Path(self.memory).unlink(missing_ok=True)


def names_any(xml: str, paths: Sequence[str]) -> bool:
    """Return True if a definition names one of these files."""
    return any(domain_xml.names(xml, path) for path in paths)


class Control:
    """Tells a step of the running process how far it has come.

    :ivar has_failed: what was begun is not complete.
    :ivar has_stopped: this process has stopped the guest.
    """

    has_failed = False
    has_stopped = False


@dataclasses.dataclass(frozen=True)
class GoBack(undo.Step, kind='go back to the state before a revert'):
    """Make a guest again what it was before a revert.

    :ivar name: of the domain snapshot that the guest goes to.
    :ivar xml: the definition before, with passwords.
    :ivar new_xml: that which the guest is to get, the same.
    :ivar snapshot_xml: that of the domain snapshot before.
    :ivar new_snapshot_xml: that which it is to get.
    :ivar was: what the guest was.
    :ivar run: of QEMU then, None if it did not run.
    :ivar current: the name of its current domain snapshot.
    :ivar written: the time of the last change of each new file.
    :ivar rest: what is done once the guest has been seen to start; fields of
        :class:`FinishRevert`.
    :ivar firmware_files: the files of its firmware and its TPM.
    :ivar firmware: their content.  With the memory QEMU saves it, too, and
        writes it when the guest goes on, but not while it is paused.
    """

    name: str
    xml: str = dataclasses.field(repr=False)
    new_xml: str = dataclasses.field(repr=False)
    snapshot_xml: str = dataclasses.field(repr=False)
    new_snapshot_xml: str = dataclasses.field(repr=False)
    autostart: bool
    was: str
    run: str | None
    current: str | None
    written: Mapping[str, int]
    rest: Mapping[str, Any]
    firmware_files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    firmware: Mapping[str, str] = dataclasses.field(
        default_factory=dict, repr=False
    )
    control: Control = dataclasses.field(
        default_factory=Control, metadata=undo.VOLATILE
    )

    @property
    def next(self) -> FinishRevert:
        """The step that takes the place of this one."""
        return FinishRevert(**self.rest)

    def undo(self, resources: undo.Resources) -> None:
        """Make the guest what it was, unless it has gone on by now.

        :raises MayHaveMoved: another host may have the guest now.
        :raises NovaSnapError: that is not possible.
        """
        guest = resources.get(guest_lib.Guest)
        if undo_steps.has_left(guest, resources, lambda: self.xml):
            return
        try:
            undo_steps.wait_for_save(guest, self.kind)
            self._settle(guest, resources.get(backing_chain.Reader))
        except exception.GuestGone:
            LOG.warning(
                'Server %s is not there any more, and does not go back to the '
                'state before its revert, which was interrupted.',
                guest.uuid,
                instance_uuid=guest.uuid,
            )

    def _settle(
        self, guest: guest_lib.Guest, reader: backing_chain.Reader
    ) -> None:
        run, has_gone_on = guest.run(), self._has_gone_on(guest)
        if run is not None and run == self.run:
            self.next.forget_memory()  # it was never stopped
        elif has_gone_on and not self.control.has_failed:
            self._complete(guest)
            self.next.finish(guest, reader)
        elif run is not None and not has_gone_on:
            self._leave(guest)
        else:
            self._go_back(guest)

    def _has_gone_on(self, guest: guest_lib.Guest) -> bool:
        """Return True if the guest runs, or has run, with the new files.

        What it wrote since is not thrown away.
        """
        if guest.run() is not None:
            if not self.written:  # memory alone
                return guest.definition().xml != self.xml
            return names_any(guest.xml(), list(self.written))
        return self._is_written() or any(
            not os.path.exists(layer['path']) for layer in self.next.left
        )

    def _is_written(self) -> bool:
        return any(
            pathlib.Path(path).stat().st_mtime_ns != time
            for path, time in self.written.items()
            if os.path.exists(path)
        )

    def _complete(self, guest: guest_lib.Guest) -> None:
        """Let libvirt know what the guest is by now."""
        # Of a guest that is restored libvirt (9.0) keeps the definition that
        # is in the file of its memory.
        if not names_any(guest.definition().xml, list(self.written)):
            guest.host.define(self.new_xml)
        found = calls.xmls(guest)
        is_same = all(
            name in (self.name, self.current)
            for name, (_xml, is_current) in found.items()
            if is_current
        )
        if self.name in found and is_same:  # no other was taken since
            calls.redefine(guest, self.new_snapshot_xml, True)

    def _leave(self, guest: guest_lib.Guest) -> None:
        """Leave a guest alone that another program has started meanwhile."""
        LOG.warning(
            'Server %s runs already, and is left as it is. The memory that it '
            'had before its revert does not fit it any more.',
            guest.uuid,
            instance_uuid=guest.uuid,
        )
        self._restore_definition(guest)
        self.next.forget_memory()

    def _restore_definition(self, guest: guest_lib.Guest) -> None:
        """Define a guest as it was, unless another program has changed it."""
        found, ours = guest.definition().xml, list(self.written)
        if found != self.xml and (not ours or names_any(found, ours)):
            guest.host.define(self.xml)
            guest.restore_definition(
                guest_lib.Definition(self.xml, self.autostart)
            )
        found_xml, is_current = calls.xmls(guest).get(self.name, ('', False))
        if is_current and found_xml != self.snapshot_xml:
            calls.redefine(guest, self.snapshot_xml, True)
        if is_current and self.current != self.name:
            make_current(guest, self.current)

    def _go_back(self, guest: guest_lib.Guest) -> None:
        LOG.warning(
            'Server %s goes back to the state before its revert.',
            guest.uuid,
            instance_uuid=guest.uuid,
        )
        has_stopped = self._has_stopped(guest)
        if guest.run() is not None:
            guest.destroy()
        if has_stopped:
            firmware_state.write(self.firmware_files, self.firmware)
        self._restore_definition(guest)
        if self.was != OFF:
            self._start(guest, has_stopped)
        self.next.forget_memory()

    def _has_stopped(self, guest: guest_lib.Guest) -> bool:
        """Return True if this revert has stopped the guest.

        Otherwise the guest has ended by itself.
        """
        return (
            self.control.has_stopped
            or guest.run() is not None
            or calls.is_saved(guest)
            or guest.definition().xml != self.xml
        )

    def _start(self, guest: guest_lib.Guest, has_stopped: bool) -> None:
        """Start a guest with the memory that it had, or without if need be."""
        reason = self._why_no_memory(guest)
        if reason is None and self._is_used_since(guest):
            reason = 'its disks were written to since'
            # Whoever has started the guest since has ended it, too.
            has_stopped = self.control.has_stopped
        if reason is None:
            try:
                calls.restore(guest, self._memory, None, self.was == PAUSED)
            except exception.HypervisorError as error:
                if guest.run() is not None:
                    raise
                reason, has_stopped = str(error), True
        if reason is None:
            return
        LOG.error(
            'Server %(server)s does not get the memory back that it had '
            'before its revert: %(reason)s. %(what)s',
            {
                'server': guest.uuid,
                'reason': reason.rstrip('.'),
                'what': 'It boots.' if has_stopped else 'It stays off.',
            },
            instance_uuid=guest.uuid,
        )
        if has_stopped:
            guest.start(paused=self.was == PAUSED)

    def _why_no_memory(self, guest: guest_lib.Guest) -> str | None:
        """Return why the memory that the guest had is not whole, or None."""
        if not os.path.exists(self._memory):
            return f'{self._memory} does not exist'
        if calls.saved_definition(guest.host, self._memory) is None:
            return f'{self._memory} is not whole'
        return None

    def _is_used_since(self, guest: guest_lib.Guest) -> bool:
        """Return True if the guest has run since its memory was saved.

        That memory would destroy what is on the disks.
        """
        limit = os.stat(self._memory).st_mtime + CLOSING
        find = inspection.volume_finder(guest.host)
        return any(
            os.stat(disk.source.describe()).st_mtime > limit
            for disk in disk_xml.disks(self.xml, find)
            if disk.type == 'file'
            and disk.readable is not None
            and not disk.is_readonly
            and not disk.is_shareable
            and os.path.exists(disk.source.describe())
        )

    @property
    def _memory(self) -> str:
        return self.next.memory


def make_current(guest: guest_lib.Guest, name: str | None) -> None:
    """Let a domain snapshot be the current one; None leaves it."""
    xml, is_current = calls.xmls(guest).get(name or '', ('', True))
    if not is_current:
        calls.redefine(guest, xml, True)
