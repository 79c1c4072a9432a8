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

"""Taking a domain snapshot.

The new files are made here, and libvirt uses them: so it is known which files
are ours, whenever one of the processes ends.  Open this file for the order of
the steps.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import pathlib

# What is written here goes to libvirt.
import xml.etree.ElementTree as ElementTree  # nosec B405

from oslo_log import log as logging

from nova_snap import exception
from nova_snap import journal
from nova_snap import progress as progress_lib
from nova_snap.objects import power_state
from nova_snap.virt import domain_snapshot
from nova_snap.virt.libvirt import block_device
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt import inspection as inspection_lib
from nova_snap.virt.libvirt import quiesce
from nova_snap.virt.libvirt.snapshots import calls
from nova_snap.virt.libvirt.snapshots import firmware_state
from nova_snap.virt.libvirt.snapshots import new_files
from nova_snap.virt.libvirt.snapshots import undo_steps
from nova_snap.virt.libvirt.snapshots import watching

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class NewFiles:
    """The paths of the files of a domain snapshot, by disk."""

    overlays: dict[str, pathlib.Path]
    memory: pathlib.Path | None

    @property
    def paths(self) -> tuple[pathlib.Path, ...]:
        """All of them."""
        memory = () if self.memory is None else (self.memory,)
        return (*self.overlays.values(), *memory)


@dataclasses.dataclass(frozen=True)
class LibvirtCreation(domain_snapshot.Creation):
    """The plan of a domain snapshot of a guest of libvirt.

    :ivar firmware: the files of its firmware and its TPM that are kept, too.
    :ivar store: where they are kept.
    """

    request: domain_snapshot.Request
    snapshot_name: str
    found: inspection_lib.Inspection
    disks: tuple[disk_xml.Disk, ...]
    files: NewFiles
    freezing: quiesce.Quiesce
    notes: tuple[str, ...] = ()
    firmware: firmware_state.Files = dataclasses.field(default_factory=dict)
    store: firmware_state.Store | None = None

    @property
    def name(self) -> str:
        """The name of the domain snapshot."""
        return self.snapshot_name

    def described(self) -> dict[str, str]:
        """Return what would be done, and libvirt's XML of it."""
        return {
            'name': self.name,
            'disks': ' '.join(disk.device for disk in self.disks),
            'files': '\n'.join(map(str, self.files.paths)),
            'guest': self._meanwhile,
            'notes': ' '.join(self.notes),
            'xml': self._xml(),
        }

    def create(
        self, entry: journal.Entry, progress: progress_lib.Progress
    ) -> None:
        """Make the files, freeze the guest, and let libvirt do the rest."""
        guest = self.found.guest
        for note in self.notes:
            LOG.warning(
                'Domain snapshot %(name)s of server %(server)s: %(note)s',
                {'name': self.name, 'server': guest.uuid, 'note': note},
                instance_uuid=guest.uuid,
            )
        with contextlib.ExitStack() as stack:
            if self.store is not None and self.firmware:
                stack.enter_context(self._keeping(self.store, entry))
            stack.enter_context(
                new_files.made(
                    entry,
                    {path: self._new(path) for path in self.files.paths},
                    self.found.power_state is power_state.PowerState.RUNNING,
                )
            )
            if self.request.quiesces:
                stack.enter_context(
                    quiesce.quiesced(guest, self.freezing, entry, progress)
                )
            progress.check()
            self._require_unchanged()
            watching.run(
                guest,
                watching.Job.DOMAIN_SNAPSHOT,
                lambda: calls.create(guest, self._xml(), self._flags),
                progress,
            )

    @contextlib.contextmanager
    def _keeping(
        self, store: firmware_state.Store, entry: journal.Entry
    ) -> Iterator[None]:
        """Keep the state of the firmware and the TPM for the block."""
        step = undo_steps.CompleteFirmware(
            self.name, [str(path) for path in self.files.paths]
        )
        with entry.undoing(step):
            store.keep(
                self.found.guest, self.name, firmware_state.read(self.firmware)
            )
            yield

    @property
    def _flags(self) -> calls.Flags:
        is_active = self.found.power_state.is_active
        return calls.Flags(
            disk_only=not self.request.has_memory
            and not self.request.is_internal,
            reuses=bool(self.files.overlays),
            live=self.request.is_live and is_active,
            halts=self.request.halts and is_active,
        )

    @property
    def _meanwhile(self) -> str:
        if not self.found.power_state.is_active:
            return 'does not run'
        if self.request.halts:
            return 'is stopped at that moment'
        if self.request.has_memory and not self.request.is_live:
            return 'is paused while its memory is written'
        if self.request.is_internal:
            return 'is paused'
        return 'is frozen for a moment' if self.request.quiesces else 'runs'

    def _require_unchanged(self) -> None:
        """Raise if the guest has other disks, or another state, by now."""
        now = inspection_lib.inspect(self.found.guest)
        if (
            now.power_state is not self.found.power_state
            or now.disks != self.found.disks
        ):
            raise exception.DomainSnapshotRefused(
                action='take',
                name=self.name,
                server=self.found.guest.uuid,
                reason='the guest has changed just now; try again.',
            )

    def _new(self, path: pathlib.Path) -> new_files.Overlay | None:
        """Return the overlay that a new file is; None: it has the memory."""
        disk = self._disk_of(path)
        if disk is None:
            return None
        device = block_device.BlockDevice(self.found.guest, disk.device)
        return new_files.Overlay(device.virtual_size(), disk.source)

    def _disk_of(self, path: pathlib.Path) -> disk_xml.Disk | None:
        for disk in self.disks:
            if self.files.overlays.get(disk.device) == path:
                return disk
        return None

    def _xml(self) -> str:
        root = ElementTree.Element('domainsnapshot')
        _child(root, 'name').text = self.name
        if self.request.description:
            _child(root, 'description').text = self.request.description
        if self.files.memory is not None:
            _child(
                root,
                'memory',
                snapshot='external',
                file=str(self.files.memory),
            )
        if not self.request.is_internal:
            disks = _child(root, 'disks')
            for disk in self.found.disks:
                self._add_disk(disks, disk)
        return ElementTree.tostring(root, encoding='unicode')

    def _add_disk(
        self, disks: ElementTree.Element, disk: disk_xml.Disk
    ) -> None:
        path = self.files.overlays.get(disk.device)
        if path is None:
            _child(disks, 'disk', name=disk.device, snapshot='no')
            return
        element = _child(
            disks, 'disk', name=disk.device, snapshot='external', type='file'
        )
        _child(element, 'driver', type='qcow2')
        _child(element, 'source', file=str(path))


def _child(
    parent: ElementTree.Element, tag: str, /, **attributes: str
) -> ElementTree.Element:
    return ElementTree.SubElement(parent, tag, attributes)
