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


"""Replacement of a guest's disks, and its undoing.

Open this file for the order in which a guest is stopped, gets other disks, and
is started.  The guest gets all of them at one moment: that at which libvirt
takes the new definition.  Until then nothing of the guest is changed but its
power, and from then on the guest is whole with the new disks.
"""

from collections.abc import Sequence
import contextlib
import dataclasses
import os
import pathlib
import re
from typing import BinaryIO

from oslo_log import log as logging

from nova_snap import exception
from nova_snap import journal
from nova_snap.virt import creation
from nova_snap.virt import power as power_lib
from nova_snap.virt import rebuilding
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import guest_metadata
from nova_snap.virt.libvirt import inspection as inspection_lib
from nova_snap.virt.libvirt import new_disks
from nova_snap.virt.libvirt import new_guest_steps
from nova_snap.virt.libvirt import new_guest_xml
from nova_snap.virt.libvirt import power_steps
from nova_snap.virt.libvirt import rebuild_checks
from nova_snap.virt.libvirt import rebuild_steps
from nova_snap.virt.libvirt import rebuild_xml
from nova_snap.virt.libvirt import root_disk
from nova_snap.virt.libvirt import shutdown

LOG = logging.getLogger(__name__)

_NUMBERS = 1000


@dataclasses.dataclass(frozen=True)
class _Reading:
    """A guest at one moment, and its persistent definition."""

    found: inspection_lib.Inspection
    definition: guest_lib.Definition

    @property
    def disks(self) -> tuple[disk_xml.Disk, ...]:
        """The disks of the definition."""
        finder = inspection_lib.volume_finder(self.found.guest.host)
        return disk_xml.disks(self.definition.xml, finder)

    @property
    def kept(self) -> tuple[rebuild_xml.Replaced, ...]:
        """The disks that were replaced, and are kept."""
        return rebuild_xml.replaced_disks(self.definition.xml)


@dataclasses.dataclass(frozen=True)
class Options:
    """What is the same for all guests.

    :ivar directory: block jobs that copy into a folder in it are ours.
    :ivar reserved: bytes that stay free.
    :ivar timeout: seconds that a guest gets to shut down.
    :ivar includes_nova: guests of Nova, too.
    """

    directory: pathlib.Path
    reserved: int
    timeout: int
    includes_nova: bool = False


class LibvirtRebuild(rebuilding.Rebuild):
    """A guest whose disks are replaced."""

    def __init__(self, guest: guest_lib.Guest, options: Options) -> None:
        self._guest = guest
        self._options = options

    def replacement(self, wanted: rebuilding.Wanted) -> '_Replacement':
        """Check whether the disks can be replaced, and choose their names."""
        reading = self._read()
        names = [disk.device for disk in wanted.disks]
        disks = rebuild_checks.chosen(reading.found, reading.disks, names)
        devices = [disk.device for disk in disks]
        self._require(reading, devices)
        if reading.kept and not wanted.forgets:
            raise exception.RebuildRefused(
                server=self._guest.uuid,
                reason='the disks that an earlier rebuild has replaced are '
                'kept: '
                + ', '.join(one.path or one.device for one in reading.kept)
                + '. Give them back (--undo) or remove them (--delete-old) '
                'first.',
            )
        placed = [
            self._place(new, old, wanted.directory)
            for new, old in zip(wanted.disks, disks, strict=True)
        ]
        made = new_disks.NewDisks(placed, wanted.max_disk)
        made.require(self._guest.host, self._options.reserved)
        xml = rebuild_xml.with_new_disks(
            reading.definition.xml,
            wanted.image,
            {
                old.device: rebuild_xml.Replacement(
                    new_guest_xml.File(one.path, one.disk.format),
                    _file(old),
                )
                for old, one in zip(disks, placed, strict=True)
            },
        )
        return _Replacement(self, reading, devices, made, xml)

    def undo(self, entry: journal.Entry, control: power_lib.Control) -> None:
        """Define the guest with the old disks, and remove the new ones."""
        reading = self._read()
        kept = reading.kept
        if not kept:
            raise exception.RebuildRefused(
                server=self._guest.uuid,
                reason='none of its disks was replaced, or they are removed.',
            )
        self._require(reading, [one.device for one in kept])
        for one in kept:
            if one.path and not os.path.exists(one.path):
                raise exception.RebuildRefused(
                    server=self._guest.uuid,
                    reason=f'its old disk {one.path} does not exist any more.',
                )
        xml = rebuild_xml.with_old_disks(reading.definition.xml, kept)
        current = {_file(disk) for disk in reading.disks}
        new = [one.by for one in kept if one.by in current]
        step = rebuild_steps.RemoveReplaced.of(new, self._guest)
        with entry.undoing(step):
            old = [one.path for one in kept if one.path]
            self.switch(entry, control, reading, xml, old, [])

    def forget(self, entry: journal.Entry) -> None:
        """Remove the note of the old disks, and then the disks."""
        reading = self._read()
        kept = reading.kept
        if not kept:
            return
        for one in kept:
            if not one.path:
                LOG.warning(
                    'The old disk %(device)s of server %(server)s is a device '
                    'of this host, and is not removed.',
                    {'device': one.device, 'server': self._guest.uuid},
                    instance_uuid=self._guest.uuid,
                )
        paths = [one.path for one in kept if one.path]
        step = rebuild_steps.RemoveReplaced.of(paths, self._guest)
        with entry.undoing(dataclasses.replace(step, has_run=False)):
            guest_metadata.write(
                self._guest,
                rebuild_xml.NAMESPACE,
                rebuild_xml.KEY,
                rebuild_xml.note_without_disks(reading.definition.xml),
            )

    def switch(
        self,
        entry: journal.Entry,
        control: power_lib.Control,
        reading: _Reading,
        xml: str,
        new: Sequence[str],
        placed: Sequence[new_disks.Placed],
    ) -> None:
        """Stop the guest, define it with other disks, and start it.

        :param reading: of before.
        :param new: the files of the disks.
        :param placed: those of the disks that were made now.
        """
        with contextlib.ExitStack() as stack:
            is_to_run = self._stop(entry, control, stack, reading, new)
            for one in placed:
                one.take_owner()
            self._require_same(reading)
            outcome = new_guest_steps.Outcome()
            stack.enter_context(
                entry.undoing(
                    rebuild_steps.RestoreDisks(
                        reading.definition.xml, list(new), outcome
                    )
                )
            )
            self._guest.host.define(xml)
            if is_to_run:
                self._guest.start(paused=False)
                self._require_runs_with(new)
            outcome.is_complete = True

    def _stop(
        self,
        entry: journal.Entry,
        control: power_lib.Control,
        stack: contextlib.ExitStack,
        reading: _Reading,
        new: Sequence[str],
    ) -> bool:
        """Stop the guest; return True if it has to be started again."""
        step = power_steps.FinishReboot.of(self._guest, self._options.timeout)
        if step.run is None:
            return False
        stack.enter_context(entry.undoing(step))
        shutdown.end(self._guest, step.run, self._options.timeout, control)
        if step.is_saved_since(self._guest):
            raise exception.RebuildRefused(
                server=self._guest.uuid,
                reason='another program has saved its memory meanwhile.',
            )
        # From here on a recovery knows whether the guest has run since.
        stopped = dataclasses.replace(step, disks=_changes(reading.disks, new))
        stack.enter_context(entry.replacing(step, stopped))
        return True

    def _require_same(self, reading: _Reading) -> None:
        """Raise Conflict if another program has changed the guest."""
        if (
            self._guest.run() is not None
            or self._guest.definition() != reading.definition
        ):
            raise exception.RebuildRefused(
                server=self._guest.uuid,
                reason='another program has changed or started it meanwhile.',
            )

    def _require_runs_with(self, paths: Sequence[str]) -> None:
        """Raise Conflict if the guest runs with other disks than it was given.

        Another program may have started it a moment before.
        """
        disks = disk_xml.disks(
            self._guest.xml(), inspection_lib.volume_finder(self._guest.host)
        )
        if not set(paths) <= {_file(disk) for disk in disks}:
            raise exception.RebuildRefused(
                server=self._guest.uuid,
                reason='another program has started it meanwhile.',
            )

    def read_again(self, before: _Reading, devices: Sequence[str]) -> _Reading:
        """Read the guest again, which may have changed.

        :param devices: target names of the disks that are replaced.
        :raises Conflict: another program has changed the guest.
        """
        reading = self._read()
        if reading.definition != before.definition:
            raise exception.RebuildRefused(
                server=self._guest.uuid,
                reason='another program has changed its definition meanwhile.',
            )
        self._require(reading, devices)
        return reading

    def _read(self) -> _Reading:
        return _Reading(
            inspection_lib.inspect(self._guest), self._guest.definition()
        )

    def _require(self, reading: _Reading, devices: Sequence[str]) -> None:
        rebuild_checks.require(
            reading.found,
            reading.definition.xml,
            devices,
            self._options.directory,
            self._options.includes_nova,
        )

    def _place(
        self,
        new: creation.Disk,
        old: disk_xml.Disk,
        directory: pathlib.Path | None,
    ) -> new_disks.Placed:
        """Choose a name for a disk that no file and no guest has."""
        file = _file(old)
        if directory is None and not file:
            raise exception.Invalid(
                f'The disk {old.device} of server {self._guest.uuid} is a '
                'device of the host; say where the new one is to be made '
                '(--directory).'
            )
        folder = directory or pathlib.Path(file).parent
        if not folder.is_dir():
            raise exception.Invalid(
                f'There is no directory {str(folder)!r} for the disks; name '
                'another one (--directory).'
            )
        stem = re.sub(r'[^\w.-]', '_', self._guest.name)[:100]
        for number in range(1, _NUMBERS):
            path = folder / f'{stem}-{old.device}-{number}.{new.format}'
            if not os.path.lexists(path) and not any(
                self._guest.host.users_of(str(path))
            ):
                break
        model = pathlib.Path(file) if file else None
        return new_disks.Placed.of(
            new, old.device, self._guest.uuid, path, model
        )


@dataclasses.dataclass(frozen=True)
class _Replacement(rebuilding.Replacement):
    """The new disks of one guest.

    :ivar devices: their target names.
    :ivar xml: the definition with the new disks.
    """

    rebuild: LibvirtRebuild
    reading: _Reading
    devices: Sequence[str]
    disks: new_disks.NewDisks
    xml: str = dataclasses.field(repr=False)

    def files(
        self, entry: journal.Entry
    ) -> contextlib.AbstractContextManager[Sequence[BinaryIO]]:
        """Yield a new file for each disk."""
        return self.disks.files(entry)

    def inspect(self) -> None:
        """Inspect and name the disks."""
        self.disks.complete()

    def finish(self, entry: journal.Entry, control: power_lib.Control) -> None:
        """Switch the guest to the new disks; remove those of earlier times."""
        reading = self.rebuild.read_again(self.reading, self.devices)
        placed = self.disks.placed
        kept = [one.path for one in reading.kept if one.path]
        step = rebuild_steps.RemoveReplaced.of(kept, reading.found.guest)
        with contextlib.ExitStack() as stack:
            if step.files:
                stack.enter_context(entry.undoing(step))
            self.rebuild.switch(
                entry,
                control,
                reading,
                self.xml,
                [str(one.path) for one in placed],
                placed,
            )


def _file(disk: disk_xml.Disk) -> str:
    """Return the file of a disk, '' if it is none."""
    source = disk.readable
    if source is None or source.type != 'file':
        return ''
    return source.location if isinstance(source.location, str) else ''


def _changes(
    disks: Sequence[disk_xml.Disk], new: Sequence[str]
) -> dict[str, int]:
    """Return the time of the last change of each disk, in nanoseconds.

    Return none if one is not a file.

    :param disks: of the guest.
    :param new: the files of those that it is to get.
    """
    hard = [d for d in root_disk.hard_disks(disks) if not d.is_readonly]
    files = [*new, *map(_file, hard)]
    if not all(files):
        return {}
    return {
        path: os.stat(path).st_mtime_ns
        for path in files
        if os.path.exists(path)
    }
