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

"""Going back to a domain snapshot whose disks are in files of their own.

The guest goes on in new, empty files over those of the domain snapshot, so
nothing that is kept is changed.  What the guest was before stays until the
guest has been seen to start, and is gone back to if it does not.  Open this
file for the order of the steps; what is looked at before is in
``revert_plan.py``.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import os
import pathlib
from typing import Any

from oslo_log import log as logging

from nova_snap import exception
from nova_snap import journal
from nova_snap import progress as progress_lib
from nova_snap import undo
from nova_snap.objects import power_state
from nova_snap.virt import domain_snapshot
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import undo_steps
from nova_snap.virt.libvirt.snapshots import calls
from nova_snap.virt.libvirt.snapshots import firmware_state
from nova_snap.virt.libvirt.snapshots import merging
from nova_snap.virt.libvirt.snapshots import new_files
from nova_snap.virt.libvirt.snapshots import usage
from nova_snap.virt.libvirt.snapshots import watching
from nova_snap.virt.storage import backing_chain
from nova_snap.virt.storage import open_files

LOG = logging.getLogger(__name__)

#: What a guest is, before and after.
RUNNING, PAUSED, OFF = 'running', 'paused', 'off'

STATES = {
    power_state.PowerState.RUNNING: RUNNING,
    power_state.PowerState.PAUSED: PAUSED,
    power_state.PowerState.SHUTDOWN: OFF,
}


class Control:
    """Tells a step of the running process how far it has come."""

    has_failed = False


@dataclasses.dataclass(frozen=True)
class GoBack(undo.Step, kind='go back to the state before a revert'):
    """Make a guest again what it was before a revert.

    :ivar xml: its definition, with passwords.
    :ivar was: what the guest was; :data:`RUNNING`, etc.
    :ivar becomes: what it is to be.
    :ivar run: of QEMU then, None if it did not run.
    :ivar memory: the file of the memory that it had.
    :ivar current: the name of its current domain snapshot.
    :ivar overlays: path and time of the last change of each new file.
    :ivar left: the files that it wrote to, and that nothing needs once it has
        gone; fields of :class:`.usage.Layer`.
    :ivar firmware_files: the files of its firmware and its TPM.
    :ivar firmware: their content.  With the memory QEMU saves it, too, and
        writes it when the guest goes on, but not while it is paused.
    """

    xml: str = dataclasses.field(repr=False)
    autostart: bool
    was: str
    becomes: str
    run: str | None
    memory: str
    current: str | None
    overlays: Sequence[Mapping[str, Any]]
    left: Sequence[Mapping[str, Any]]
    firmware_files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    firmware: Mapping[str, str] = dataclasses.field(
        default_factory=dict, repr=False
    )
    control: Control = dataclasses.field(
        default_factory=Control, metadata=undo.VOLATILE
    )

    def undo(self, resources: undo.Resources) -> None:
        """Make the guest what it was, unless it runs by now.

        :raises MayHaveMoved: another host may have the guest now.
        :raises NovaSnapError: that is not possible.
        """
        guest = resources.get(guest_lib.Guest)
        if undo_steps.has_left(guest, resources, lambda: self.xml):
            return
        try:
            undo_steps.wait_for_save(guest, self.kind)
            if self.run is not None and guest.run() == self.run:
                self._forget_memory()  # it was never stopped
            elif not self.control.has_failed and self._has_run(guest):
                self.finish(guest, resources.get(backing_chain.Reader))
            else:
                self._go_back(guest)
        except exception.GuestGone:
            LOG.warning(
                'Server %s is not there any more, and does not go back to the '
                'state before its revert, which was interrupted.',
                guest.uuid,
                instance_uuid=guest.uuid,
            )

    def _has_run(self, guest: guest_lib.Guest) -> bool:
        """Return True if the guest was started with the new files.

        What it wrote since is not thrown away.
        """
        return guest.run() is not None or any(
            pathlib.Path(overlay['path']).stat().st_mtime_ns
            != overlay['mtime']
            for overlay in self.overlays
            if os.path.exists(overlay['path'])
        )

    def _go_back(self, guest: guest_lib.Guest) -> None:
        LOG.warning(
            'Server %s goes back to the state before its revert.',
            guest.uuid,
            instance_uuid=guest.uuid,
        )
        if guest.run() is not None:
            guest.destroy()
        firmware_state.write(self.firmware_files, self.firmware)
        guest.host.define(self.xml)
        guest.restore_definition(
            guest_lib.Definition(self.xml, self.autostart)
        )
        xml, is_current = calls.xmls(guest).get(self.current or '', ('', True))
        if not is_current:
            calls.redefine(guest, xml, True)
        if self._has_memory(guest):
            calls.restore(guest, self.memory, None, self.was == PAUSED)
        self._forget_memory()

    def _has_memory(self, guest: guest_lib.Guest) -> bool:
        """Return True if the memory that the guest had is whole."""
        return (
            self.was != OFF
            and os.path.exists(self.memory)
            and calls.saved_definition(guest.host, self.memory) is not None
        )

    def finish(
        self, guest: guest_lib.Guest, reader: backing_chain.Reader
    ) -> None:
        """Remove what the guest was before; it has been seen to start."""
        if self.becomes == OFF and (
            guest.power_state() is power_state.PowerState.PAUSED
        ):
            guest.destroy()  # the start was to see whether it is possible
        self._forget_memory()
        for data in self.left:
            layer = usage.Layer(
                **{**data, 'identity': tuple(data['identity'])}
            )
            merging.remove_leftover(guest, reader, layer)

    def _forget_memory(self) -> None:
        pathlib.Path(self.memory).unlink(missing_ok=True)


@dataclasses.dataclass(frozen=True)
class New:
    """What the guest is to be.

    :ivar definition: its XML, with passwords.
    :ivar overlays: the new files.
    :ivar snapshot_xml: of the domain snapshot.
    :ivar memory: the file with the memory of then, if it has one.
    :ivar memory_xml: the XML of the guest with that memory.
    :ivar firmware: the state of its firmware and its TPM, if it has no memory.
    """

    definition: str = dataclasses.field(repr=False)
    overlays: Mapping[pathlib.Path, new_files.Overlay]
    snapshot_xml: str = dataclasses.field(repr=False)
    memory: str | None = None
    memory_xml: str | None = dataclasses.field(default=None, repr=False)
    firmware: firmware_state.State = dataclasses.field(
        default_factory=dict, repr=False
    )


@dataclasses.dataclass(frozen=True)
class LibvirtRevert(domain_snapshot.Revert):
    """The plan of going back.

    :ivar keep: takes a domain snapshot of the state before, and returns the
        plan that goes on from there; None if that is not wanted.
    :ivar left: the files that the guest writes to until then.
    """

    guest: guest_lib.Guest
    reader: backing_chain.Reader
    name: str
    was: str
    becomes: str
    saved: pathlib.Path
    current: str | None
    new: New
    left: tuple[usage.Layer, ...]
    notes: tuple[str, ...] = ()
    keep: (
        Callable[[journal.Entry, progress_lib.Progress], 'LibvirtRevert']
        | None
    ) = None

    def described(self) -> dict[str, str]:
        """Return what would be done, and the guest's XML after it."""
        return {
            'name': self.name,
            'guest': f'is {self.was}, will be {self.becomes}',
            'new_files': '\n'.join(map(str, self.new.overlays)),
            'removed': '\n'.join(layer.path for layer in self.left)
            if self.keep is None
            else '',
            'notes': ' '.join(self.notes),
        }

    def revert(
        self, entry: journal.Entry, progress: progress_lib.Progress
    ) -> None:
        """Stop the guest, define it as it was, and start it."""
        if self.keep is not None:
            return self.keep(entry, progress).revert(entry, progress)
        for note in self.notes:
            LOG.warning(
                'Revert of server %(server)s to %(name)s: %(note)s',
                {'server': self.guest.uuid, 'name': self.name, 'note': note},
                instance_uuid=self.guest.uuid,
            )
        with new_files.made(entry, self.new.overlays, ran=False):
            step = self._step()
            with entry.undoing(step):
                progress.check()
                step.control.has_failed = True
                self._stop(progress)
                self.guest.host.define(self.new.definition)
                calls.redefine(self.guest, self.new.snapshot_xml, True)
                self._set_firmware()
                self._start()
                step.control.has_failed = False
                step.finish(self.guest, self.reader)
                entry.drop(step)
        return None

    def _step(self) -> GoBack:
        definition = self.guest.definition()
        files = firmware_state.files(self.guest, definition.xml)
        return GoBack(
            xml=definition.xml,
            autostart=definition.autostart,
            was=self.was,
            becomes=self.becomes,
            run=self.guest.run(),
            memory=str(self.saved),
            current=self.current,
            overlays=[
                {'path': str(path), 'mtime': path.stat().st_mtime_ns}
                for path in self.new.overlays
            ],
            left=[dataclasses.asdict(layer) for layer in self.left],
            firmware_files=dict(files),
            firmware=dict(firmware_state.read(files)),
        )

    def _stop(self, progress: progress_lib.Progress) -> None:
        """Stop the guest, and keep its memory."""
        if self.was != OFF:
            watching.run(
                self.guest,
                watching.Job.SAVE,
                lambda: calls.save(self.guest, str(self.saved)),
                progress,
            )

    def _set_firmware(self) -> None:
        """Give the firmware and the TPM the state of then."""
        firmware_state.write(
            firmware_state.files(self.guest, self.new.definition),
            self.new.firmware,
        )

    def _start(self) -> None:
        """Start the guest; one that is to be off is started to try it.

        Paused, it writes nothing.
        """
        if self.becomes != OFF and self.new.memory is not None:
            calls.restore(
                self.guest,
                self.new.memory,
                self.new.memory_xml,
                self.becomes == PAUSED,
            )
            # Of a guest that is restored libvirt (9.0) keeps the definition
            # that is in the file.
            self.guest.host.define(self.new.definition)
        else:
            self.guest.start(paused=self.becomes != RUNNING)


def identity_of(path: str) -> open_files.Identity | None:
    """Return the identity of a file, None if it can't be looked at."""
    try:
        return open_files.identity(path)
    except OSError:
        return None
