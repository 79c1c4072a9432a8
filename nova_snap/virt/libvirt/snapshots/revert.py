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
``revert_plan.py``, and what becomes of a guest if it fails in
``revert_steps.py``.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import pathlib

from oslo_log import log as logging

from nova_snap import exception
from nova_snap import journal
from nova_snap import progress as progress_lib
from nova_snap.objects import power_state
from nova_snap.virt import domain_snapshot
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt.snapshots import calls
from nova_snap.virt.libvirt.snapshots import firmware_state
from nova_snap.virt.libvirt.snapshots import new_files
from nova_snap.virt.libvirt.snapshots import revert_steps
from nova_snap.virt.libvirt.snapshots import usage
from nova_snap.virt.libvirt.snapshots import watching
from nova_snap.virt.storage import open_files

LOG = logging.getLogger(__name__)

_STARTED = 'another program has started the guest meanwhile.'


@dataclasses.dataclass(frozen=True)
class New:
    """What the guest is to be.

    :ivar definition: its XML, with passwords.
    :ivar overlays: the new files.
    :ivar snapshot_xml: of the domain snapshot, with the new files.
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
class Seen:
    """What of a guest must not change between the plan and its beginning.

    :ivar snapshots: the names of its domain snapshots.
    :ivar current: that of the current one, None if none is.
    """

    state: power_state.PowerState
    definition: guest_lib.Definition
    snapshots: frozenset[str]
    current: str | None

    @classmethod
    def of(cls, guest: guest_lib.Guest) -> 'Seen':
        """Look at a guest."""
        found = calls.xmls(guest)
        return cls(
            state=guest.power_state(),
            definition=guest.definition(),
            snapshots=frozenset(found),
            current=next(
                (n for n, (_xml, is_current) in found.items() if is_current),
                None,
            ),
        )


@dataclasses.dataclass(frozen=True)
class LibvirtRevert(domain_snapshot.Revert):
    """The plan of going back.

    :ivar keep: takes a domain snapshot of the state before, and returns the
        plan that goes on from there; None if that is not wanted.
    :ivar saved: the file that gets the memory of the state before.
    :ivar seen: what the guest was when this was planned.
    :ivar left: the files that the guest writes to until then.
    """

    guest: guest_lib.Guest
    name: str
    was: str
    becomes: str
    saved: pathlib.Path
    seen: Seen
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
            progress.check()
            self._require_unchanged()
            step = self._step()
            with entry.undoing(step):
                step.control.has_failed = True
                self._stop(progress)
                step.control.has_stopped = self.was != revert_steps.OFF
                self._require_off()
                self.guest.host.define(self.new.definition)
                self._set_firmware()
                self._start()
                self._require_new_files()
                step.control.has_failed = False
                calls.redefine(self.guest, self.new.snapshot_xml, True)
                with entry.replacing(step, step.next):
                    pass  # from here on, there is no way back
        return None

    def _step(self) -> revert_steps.GoBack:
        definition = self.guest.definition()
        files = firmware_state.files(self.guest, definition.xml)
        return revert_steps.GoBack(
            name=self.name,
            xml=definition.xml,
            new_xml=self.new.definition,
            snapshot_xml=calls.xmls(self.guest)[self.name][0],
            new_snapshot_xml=self.new.snapshot_xml,
            autostart=definition.autostart,
            was=self.was,
            run=self.guest.run(),
            current=self.seen.current,
            written={
                str(path): path.stat().st_mtime_ns
                for path in self.new.overlays
            },
            rest={
                'becomes': self.becomes,
                'memory': str(self.saved),
                'overlays': list(map(str, self.new.overlays)),
                'left': [dataclasses.asdict(layer) for layer in self.left],
            },
            firmware_files=dict(files),
            firmware=dict(firmware_state.read(files)),
        )

    def _require_unchanged(self) -> None:
        """Raise if another program has changed the guest since the plan."""
        if Seen.of(self.guest) != self.seen:
            raise self._refused('the guest has changed just now; try again.')

    def _require_off(self) -> None:
        if self.guest.run() is not None:
            raise self._refused(_STARTED)

    def _require_new_files(self) -> None:
        """Raise if the guest that runs was started by another program."""
        paths = list(map(str, self.new.overlays))
        if paths and not revert_steps.names_any(self.guest.xml(), paths):
            raise self._refused(_STARTED)

    def _refused(self, reason: str) -> exception.DomainSnapshotRefused:
        return exception.DomainSnapshotRefused(
            action='revert to',
            name=self.name,
            server=self.guest.uuid,
            reason=reason,
        )

    def _stop(self, progress: progress_lib.Progress) -> None:
        """Stop the guest, and keep its memory."""
        if self.was != revert_steps.OFF:
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
        if self.becomes != revert_steps.OFF and self.new.memory is not None:
            calls.restore(
                self.guest,
                self.new.memory,
                self.new.memory_xml,
                self.becomes == revert_steps.PAUSED,
            )
            # Of a guest that is restored libvirt (9.0) keeps the definition
            # that is in the file.
            self.guest.host.define(self.new.definition)
        else:
            self.guest.start(paused=self.becomes != revert_steps.RUNNING)


def identity_of(path: str) -> open_files.Identity | None:
    """Return the identity of a file, None if it can't be looked at."""
    try:
        return open_files.identity(path)
    except OSError:
        return None
