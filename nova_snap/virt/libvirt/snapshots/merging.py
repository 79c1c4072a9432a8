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

"""Merging a layer of a disk into the one below it, and removing it.

What is read through the two layers is the same at each moment: data goes from
the upper one into the lower one, and stays in the upper one until nothing
names that any more.  So this may be ended at any moment, and be begun again,
while the guest runs or not.  Open this file for the order of the steps.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import enum
import os
import pathlib
from typing import Any

from oslo_log import log as logging

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap import waiting
from nova_snap.virt.libvirt import block_device
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import inspection
from nova_snap.virt.libvirt.snapshots import calls
from nova_snap.virt.libvirt.snapshots import metadata
from nova_snap.virt.libvirt.snapshots import rewriting
from nova_snap.virt.libvirt.snapshots import usage
from nova_snap.virt.storage import backing_chain
from nova_snap.virt.storage import disk_source as storage
from nova_snap.virt.storage import layers as layers_lib
from nova_snap.virt.storage import open_files

LOG = logging.getLogger(__name__)

#: Seconds after which a job is looked at first; most have little to move.
FIRST_POLL = 0.02


@dataclasses.dataclass(frozen=True)
class Merge:
    """Two layers of a disk; ``top`` lies directly over ``base``."""

    device: str
    top: usage.Layer
    base: usage.Layer

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> 'Merge':
        """Make it from :func:`dataclasses.asdict` in JSON."""
        top, base = map(usage.Layer.from_data, (data['top'], data['base']))
        return cls(data['device'], top, base)


class _Where(enum.Enum):
    """Where the upper layer is, and so how its data gets into the lower."""

    TOPMOST = enum.auto()
    BETWEEN = enum.auto()
    NOT_OPEN = enum.auto()
    MERGED = enum.auto()


class Merger:
    """Merges layers of the disks of a guest.

    :param reader: of the layers that only headers name.
    :param rate: bytes a second; 0: as fast as it can.
    """

    def __init__(
        self,
        guest: guest_lib.Guest,
        reader: backing_chain.Reader,
        rate: int = 0,
    ) -> None:
        self._guest = guest
        self._reader = reader
        self._rate = rate

    def merge(self, merge: Merge, progress: progress_lib.Progress) -> None:
        """Merge two layers, and remove the upper one.

        :raises SnapshotCancelled: it can be begun again.
        :raises NovaSnapError: the same.
        """
        if open_files.identity(merge.top.path) != merge.top.identity:
            return  # it was merged, and is gone
        before: _Where | None = None
        while (where := self._where(merge)) is not _Where.MERGED:
            if where is before:
                raise self._failed(merge)
            before = where
            self._require_no_other_branch(merge)
            if where is _Where.NOT_OPEN:
                self._commit_file(merge, progress)
                if self._where(merge) is _Where.NOT_OPEN:
                    break
            else:
                self._commit_live(merge, where is _Where.TOPMOST, progress)
            # The guest may have started or stopped meanwhile.
        self._forget(merge)
        remove(self._guest, self._reader, [merge.top])

    def _require_no_other_branch(self, merge: Merge) -> None:
        """Raise UnsafeDisk if something else lies over the lower layer.

        That was looked at when the deletion was planned, which may be long
        ago: a recovery goes on with it.
        """
        for chain in self._chains():
            files = [layer.identity for layer in chain.layers]
            if merge.base.identity not in files:
                continue
            place = files.index(merge.base.identity)
            is_own = chain.uuid == self._guest.uuid
            is_through_top = merge.top.identity in files[:place]
            # Neither what was written after a domain snapshot, nor what a
            # file has inside, is what the file has now.
            is_not_now = not place and (chain.is_overlay or chain.is_inside)
            if not is_own or not (is_through_top or is_not_now):
                raise exception.UnsafeDisk(
                    disk=merge.base.path,
                    reason=f'{_user(chain, is_own)} needs it as it is by now.',
                )

    def name_overlays(self) -> None:
        """Let the current domain snapshot name the disks of the guest.

        When it has become the current one because the one after it was
        deleted, its own overlays may be the disks of another one after it,
        and libvirt (9.9 and later) would remove them with the next revert.
        """
        found = calls.xmls(self._guest)
        parents = {
            metadata.parse(xml, False).parent for xml, _is in found.values()
        }
        for name, (xml, is_current) in found.items():
            if not is_current:
                continue
            overlays = {
                disk.device: chain[0].source
                for disk in metadata.parse(xml, True).disks
                if disk.mode == metadata.EXTERNAL
                and disk.frozen is not None
                and len(chain := self._current(disk.device)) > 1
                and chain[1].identity
                == open_files.identity(disk.frozen.describe())
                and (
                    disk.overlay is None
                    or disk.overlay.describe() != chain[0].path
                )
            }
            if overlays:
                new = rewriting.reverted(xml, overlays, name in parents)
                calls.redefine(self._guest, new, True)

    # Moving the data

    def _failed(self, merge: Merge) -> exception.BlockJobFailed:
        return exception.BlockJobFailed(
            disk=merge.device,
            server=self._guest.uuid,
            reason=f'the data of {merge.top.path} is not in '
            f'{merge.base.path}. Look whether there is room, and at the log '
            'of QEMU.',
        )

    def _where(self, merge: Merge) -> _Where:
        is_active = self._guest.power_state().is_active
        found = [layer.identity for layer in self._current(merge.device)]
        if merge.top.identity in found:
            if not is_active:
                return _Where.NOT_OPEN
            is_top = found[0] == merge.top.identity
            return _Where.TOPMOST if is_top else _Where.BETWEEN
        if merge.base.identity in found:
            # The guest may have written to it since.
            return _Where.MERGED
        is_used = any(
            merge.top.identity in chain.files for chain in self._chains()
        )
        return _Where.NOT_OPEN if is_used else _Where.MERGED

    def _current(self, device: str) -> tuple[usage.Layer, ...]:
        """Return the layers of a disk, as it runs or as it is defined."""
        return next(
            (
                chain.layers
                for chain in self._chains()
                if chain.uuid == self._guest.uuid
                and chain.device == device
                and chain.snapshot is None
            ),
            (),
        )

    def _chains(self) -> tuple[usage.Chain, ...]:
        host = self._guest.host
        return usage.Chains(self._reader).of(
            calls.domains(host), inspection.volume_finder(host)
        )

    def _commit_live(
        self, merge: Merge, is_topmost: bool, progress: progress_lib.Progress
    ) -> None:
        """Let QEMU move the data; whether it is there is looked at later."""
        guest, device = self._guest, merge.device
        try:
            job = calls.block_job(guest, device)
            if job is not None and not job.is_commit:
                raise exception.BlockJobRunning(disk=device, server=guest.uuid)
            if job is None:
                calls.begin_commit(
                    guest,
                    device,
                    self._names(merge),
                    self._rate,
                    is_topmost,
                )
            self._wait(merge, progress)
        except exception.SnapshotCancelled:
            with contextlib.suppress(exception.NovaSnapError):
                block_device.BlockDevice(guest, device).abort_job()
            raise
        except (exception.HypervisorError, exception.GuestGone):
            if guest.power_state().is_active:
                raise

    def _wait(self, merge: Merge, progress: progress_lib.Progress) -> None:
        device = block_device.BlockDevice(self._guest, merge.device)
        for pause in waiting.pauses(FIRST_POLL, progress_lib.POLL_INTERVAL):
            job = calls.block_job(self._guest, merge.device)
            if job is None:
                return
            progress.report(progress_lib.Stage.MERGING, job.done, job.total)
            mirror = device.mirror()
            if mirror is not None:
                self._require_ours(merge, mirror)
                if mirror.is_ready:
                    calls.pivot(self._guest, merge.device)
                    return
            progress.wait(pause)

    def _require_ours(self, merge: Merge, mirror: disk_xml.Mirror) -> None:
        target = mirror.target
        if (
            target is None
            or open_files.identity(target) != merge.base.identity
        ):
            raise exception.BlockJobRunning(
                disk=merge.device, server=self._guest.uuid
            )

    def _names(self, merge: Merge) -> tuple[str, str]:
        """Return the paths of the layers as libvirt has them."""
        found = {
            layer.identity: layer.path for layer in self._current(merge.device)
        }
        return (
            found[merge.top.identity],
            found.get(merge.base.identity, merge.base.path),
        )

    def _commit_file(
        self, merge: Merge, progress: progress_lib.Progress
    ) -> None:
        source = self._reader.completed(merge.top.source)
        below = source.backing
        if (
            below is None
            or open_files.identity(below.describe()) != merge.base.identity
        ):
            raise exception.UnsafeDisk(
                disk=merge.top.path,
                reason=f'it does not lie over {merge.base.path} any more.',
            )
        size = os.stat(merge.top.path).st_blocks * 512

        def report(share: float) -> None:
            done = int(share * size)
            progress.report(progress_lib.Stage.MERGING, done, size)

        layers_lib.commit(source, self._rate, report)

    # Forgetting the upper layer

    def _forget(self, merge: Merge) -> None:
        """Let nothing name the upper layer any more."""
        below = dataclasses.replace(merge.base.source, is_chain_known=True)
        for path in self._above(merge):
            layers_lib.set_backing(path, below)
        for path in self._paths_of_top(merge):
            for xml, is_current in calls.xmls(self._guest).values():
                new = rewriting.moved(xml, merge.device, path, below)
                if new is not None:
                    calls.redefine(self._guest, new, is_current)
            self._redefine(merge, path, below)

    def _above(self, merge: Merge) -> Iterator[str]:
        """Yield the files whose headers name the upper layer.

        :raises UnsafeDisk: another guest has one.
        """
        current = {layer.identity for layer in self._current(merge.device)}
        is_active = self._guest.power_state().is_active
        found: dict[str, None] = {}
        for chain in self._chains():
            files = [layer.identity for layer in chain.layers]
            if merge.top.identity not in files[1:]:
                continue
            if chain.uuid != self._guest.uuid:
                raise exception.UnsafeDisk(
                    disk=merge.top.path,
                    reason=f'server {chain.server} uses it by now.',
                )
            upper = chain.layers[files.index(merge.top.identity) - 1]
            if not is_active or upper.identity not in current:
                found[upper.path] = None
        yield from found

    def _paths_of_top(self, merge: Merge) -> Iterator[str]:
        """Yield the names by which libvirt may know the upper layer."""
        yield from dict.fromkeys(
            (
                merge.top.path,
                *(
                    layer.path
                    for chain in self._chains()
                    for layer in chain.layers
                    if layer.identity == merge.top.identity
                ),
            )
        )

    def _redefine(
        self, merge: Merge, path: str, below: storage.DiskSource
    ) -> None:
        if not self._guest.is_persistent():
            return
        new = rewriting.moved(
            self._guest.definition().xml, merge.device, path, below
        )
        if new is None:
            return
        if self._where(merge) is _Where.TOPMOST:
            # What the guest writes from now on would be lost.
            raise exception.UnsafeDisk(
                disk=merge.top.path,
                reason='the guest was started from it meanwhile.',
            )
        self._guest.host.define(new)


def _user(chain: usage.Chain, is_own: bool) -> str:
    if not is_own:
        return f'server {chain.server}'
    if chain.snapshot is not None:
        return f'domain snapshot {chain.snapshot}'
    return f'disk {chain.device}'


def remove(
    guest: guest_lib.Guest,
    reader: backing_chain.Reader,
    files: Sequence[usage.Layer],
) -> None:
    """Remove files that nothing needs any more.

    :raises UnsafeDisk: something needs one all the same; it stays.
    """
    wanted = [
        file
        for file in files
        if open_files.identity(file.path) == file.identity
    ]
    if not wanted:
        return
    host = guest.host
    domains = calls.domains(host)
    chains = usage.Chains(reader).of(domains, inspection.volume_finder(host))
    opened = open_files.openers({f.identity: [f.path] for f in wanted})
    for file in wanted:
        users = [
            chain.server
            for chain in chains
            if file.identity in chain.files
            and not _is_past(chain, guest, file)
        ]
        users += [opener.name for opener in opened.get(file.identity, ())]
        users += [
            domain.name
            for domain in domains
            for snapshot in domain.snapshots
            if snapshot.memory_file == file.path
        ]
        if users:
            raise exception.UnsafeDisk(
                disk=file.path,
                reason=f'it stays: {", ".join(dict.fromkeys(users))} uses it.',
            )
        _unlink(guest, file)


def _is_past(
    chain: usage.Chain, guest: guest_lib.Guest, file: usage.Layer
) -> bool:
    """Return True if a guest wrote to a file after a domain snapshot.

    libvirt keeps the name of such a file, whether the guest has left it since
    or not.
    """
    return (
        chain.is_overlay
        and chain.uuid == guest.uuid
        and [layer.identity for layer in chain.layers[:1]] == [file.identity]
    )


def remove_leftover(
    guest: guest_lib.Guest, reader: backing_chain.Reader, file: usage.Layer
) -> None:
    """Remove the file that a guest wrote to until it was reverted.

    It stays if something else than the guest's past needs it.
    """
    if open_files.identity(file.path) != file.identity:
        return
    host = guest.host
    chains = usage.Chains(reader).of(
        calls.domains(host), inspection.volume_finder(host)
    )
    is_used = any(
        file.identity in chain.files
        for chain in chains
        if not _is_past(chain, guest, file)
    )
    if not is_used and not open_files.openers({file.identity: [file.path]}):
        _unlink(guest, file)


def _unlink(guest: guest_lib.Guest, file: usage.Layer) -> None:
    """Remove a file; a block device is somebody else's to remove."""
    if file.type == 'block' or pathlib.Path(file.path).is_block_device():
        LOG.warning(
            'Server %(server)s does not need %(path)s any more, which stays, '
            'since it is a device of this host.',
            {'server': guest.uuid, 'path': file.path},
            instance_uuid=guest.uuid,
        )
        return
    os.unlink(file.path)
