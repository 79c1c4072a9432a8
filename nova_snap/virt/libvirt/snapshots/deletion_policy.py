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

"""What becomes of the files of a domain snapshot that is deleted.

Pure functions over backing chains: which file is merged into which, which is
removed, which stays, and why that is not possible.  Open this file to see what
a file is needed for.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses

from nova_snap.virt.libvirt.snapshots import usage
from nova_snap.virt.storage import open_files

Identity = open_files.Identity


@dataclasses.dataclass(frozen=True)
class Need:
    """Something that reads a disk through a chain of files.

    :ivar what: a phrase, such as "domain snapshot b".
    :ivar uuid: the guest's.
    :ivar snapshot: the domain snapshot; None if the guest has the disk now.
    :ivar is_leftover: it is what was written after that domain snapshot,
        which the guest may have left since.
    :ivar is_inside: the topmost file has the disk in itself.
    """

    what: str
    uuid: str
    device: str
    snapshot: str | None
    is_leftover: bool
    is_inside: bool
    chain: tuple[Identity, ...]

    def is_content_of(self, file: Identity) -> bool:
        """Return True if the disk is what a file has now."""
        is_now = not self.is_leftover and not self.is_inside
        return is_now and self.chain[:1] == (file,)

    @classmethod
    def of(cls, chain: usage.Chain, own_uuid: str) -> 'Need':
        """Make it from a chain."""
        if chain.uuid != own_uuid:
            what = f'server {chain.server}'
        elif chain.snapshot is None:
            what = f'disk {chain.device}'
        elif chain.is_overlay:
            what = f'what was written after domain snapshot {chain.snapshot}'
        else:
            what = f'domain snapshot {chain.snapshot}'
        return cls(
            what=what,
            uuid=chain.uuid,
            device=chain.device,
            snapshot=chain.snapshot,
            is_leftover=chain.is_overlay,
            is_inside=chain.is_inside,
            chain=tuple(layer.identity for layer in chain.layers),
        )


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The disks of a domain snapshot.

    :ivar frozen: the file of each disk that it has externally, by device.
    :ivar overlays: what was put on them.
    :ivar inside: the files that have a disk in themselves.
    """

    name: str
    frozen: Mapping[str, Identity]
    overlays: Mapping[str, Identity]
    inside: Mapping[str, Identity]


@dataclasses.dataclass(frozen=True)
class Merge:
    """The data of ``top`` goes into ``base``, and ``top`` is removed."""

    device: str
    top: Identity
    base: Identity


@dataclasses.dataclass(frozen=True)
class Files:
    """What becomes of the files of one domain snapshot.

    :ivar remove: files that nothing needs any more.
    :ivar refusals: phrases; if there is one, nothing else counts.
    """

    merges: tuple[Merge, ...] = ()
    remove: tuple[Identity, ...] = ()
    refusals: tuple[str, ...] = ()


@dataclasses.dataclass
class Host:
    """The files of a host, as they are after what is planned so far.

    :ivar own_uuid: of the guest whose domain snapshots are deleted.
    :ivar internal: files that have internal snapshots in themselves.
    :ivar names: of files, for messages.
    :ivar gone: files that are removed by then.
    """

    own_uuid: str
    needs: Sequence[Need]
    internal: frozenset[Identity]
    names: Mapping[Identity, str]
    gone: set[Identity] = dataclasses.field(default_factory=set)

    def delete(self, snapshot: Snapshot) -> Files:
        """Plan the deletion of a domain snapshot, and note it as done."""
        own_overlays = set(snapshot.overlays.values())
        others = [
            need
            for need in self.needs
            if need.snapshot != snapshot.name or need.uuid != self.own_uuid
        ]
        found = [
            self._of_disk(others, device, base)
            for device, base in snapshot.frozen.items()
        ]
        needed = {file for need in others for file in need.chain}
        merged = Files(
            merges=tuple(merge for files in found for merge in files.merges),
            remove=(
                *(file for files in found for file in files.remove),
                *sorted(own_overlays - needed - self.gone),
            ),
            refusals=tuple(r for files in found for r in files.refusals),
        )
        if not merged.refusals:
            self._note(others, merged)
        return merged

    def _of_disk(
        self, others: Sequence[Need], device: str, base: Identity
    ) -> Files:
        if any(need.is_content_of(base) for need in others):
            return Files()  # it is needed as it is
        users = [need for need in others if base in need.chain]
        uppers = dict.fromkeys(
            need.chain[need.chain.index(base) - 1]
            for need in users
            if need.chain[0] != base
        )
        if not uppers:
            is_free = base not in self.internal and self.is_made(device, base)
            return Files(remove=(base,) if is_free else ())
        refusals = tuple(self._refusals(users, base, tuple(uppers)))
        (top, *_others) = uppers
        return Files((Merge(device, top, base),), (), refusals)

    def _refusals(
        self, users: Sequence[Need], base: Identity, uppers: Sequence[Identity]
    ) -> Iterator[str]:
        name = self.names[base]
        strangers = dict.fromkeys(
            need.what for need in users if need.uuid != self.own_uuid
        )
        if strangers:
            yield f'{name} is needed by {", ".join(strangers)}'
        if len(uppers) > 1:
            lying = dict.fromkeys(need.what for need in users)
            yield (
                f'more than one branch lies over {name} ('
                f'{", ".join(lying)}); delete the others first'
            )
        for top in uppers:
            if top in self.internal:
                yield (
                    f'{self.names[top]} would be merged, and its internal '
                    'snapshots would be lost; delete these first'
                )
            tops = [need for need in users if need.is_content_of(top)]
            kept = [need.what for need in tops if need.snapshot is not None]
            if kept and len(kept) < len(tops):
                # Once it is merged, what the guest writes goes on in the file
                # below.
                yield (
                    f'{self.names[top]}, the disk of the server, would be '
                    f'merged, and {", ".join(kept)} needs it as it is'
                )

    def is_made(self, device: str, file: Identity) -> bool:
        """Return True if a file was made for a domain snapshot or a revert.

        One is the overlay of another domain snapshot, or lies directly over
        what another one has.  The disk that the guest once had is neither.
        """
        below = self._below.get(file)
        return any(
            need.chain[:1] == ((file,) if need.is_leftover else (below,))
            for need in self.needs
            if need.uuid == self.own_uuid
            and need.device == device
            and need.snapshot is not None
            and need.chain
        )

    @property
    def _below(self) -> Mapping[Identity, Identity]:
        return {
            upper: lower
            for need in self.needs
            for upper, lower in zip(need.chain, need.chain[1:], strict=False)
        }

    def _note(self, others: Sequence[Need], files: Files) -> None:
        moved = {merge.top: merge.base for merge in files.merges}
        self.gone |= {*moved, *files.remove}
        self.needs = [
            dataclasses.replace(
                need,
                chain=tuple(
                    dict.fromkeys(moved.get(file, file) for file in need.chain)
                ),
            )
            for need in others
        ]
