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

"""Finding who on this host reads a file of a disk.

libvirt knows the domain snapshots of each guest, but not that two guests, or
two branches of one guest's domain snapshots, lie over the same file.  Open
this file to see what is looked at: the backing chains of all guests, as they
run and as they are defined, and of all domain snapshots.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses

from nova_snap import exception
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt.snapshots import calls
from nova_snap.virt.storage import backing_chain
from nova_snap.virt.storage import disk_source as storage
from nova_snap.virt.storage import open_files


@dataclasses.dataclass(frozen=True)
class Chain:
    """The files of a disk, from the top; as it is, or as it was.

    :ivar uuid: the guest's.
    :ivar snapshot: the domain snapshot that has the disk; None if the guest
        has it now.
    :ivar is_overlay: it is what was written after that domain snapshot.
    :ivar files: those that could be looked at, by identity.
    """

    uuid: str
    server: str
    device: str
    snapshot: str | None
    is_overlay: bool
    files: frozenset[open_files.Identity]


#: A domain, a disk of it, the domain snapshot that has the disk, whether it is
#: what was written after, and the disk.
_Found = tuple[calls.Domain, str, str | None, bool | int, storage.DiskSource]


class Chains:
    """The backing chains of a host, each file read once.

    :param reader: of the layers that only headers name.
    """

    def __init__(self, reader: backing_chain.Reader) -> None:
        self._reader = reader
        self._paths: dict[str, tuple[str, ...]] = {}
        self._unknown: dict[str, None] = {}

    @property
    def unknown(self) -> tuple[str, ...]:
        """Sentences on the chains that could not be read to their ends."""
        return tuple(self._unknown)

    def of(
        self, domains: Sequence[calls.Domain], find: disk_xml.VolumeFinder
    ) -> tuple[Chain, ...]:
        """Return the chains of all disks and domain snapshots of domains."""
        # What runs first: libvirt knows its chain, which no header has to
        # tell any more.
        found: list[_Found] = [
            (domain, device, None, False, source)
            for xml in ('xml', 'definition')
            for domain in domains
            for device, source in _disks(getattr(domain, xml), find)
        ] + [
            (domain, disk.device, snapshot.name, is_overlay, source)
            for domain in domains
            for snapshot in domain.snapshots
            for disk in snapshot.disks
            for is_overlay, source in enumerate((disk.frozen, disk.overlay))
            if source is not None and disk.is_in
        ]
        found.sort(key=lambda item: not item[4].is_chain_known)
        return tuple(
            dict.fromkeys(
                Chain(
                    uuid=domain.uuid,
                    server=domain.name,
                    device=device,
                    snapshot=name,
                    is_overlay=bool(is_overlay),
                    files=frozenset(self._identities(source, domain.name)),
                )
                for domain, device, name, is_overlay, source in found
            )
        )

    def paths(
        self, source: storage.DiskSource, server: str
    ) -> tuple[str, ...]:
        """Return the paths of a disk's layers, as far as they are known."""
        top = source.location
        if not isinstance(top, str):
            return ()  # in Ceph, over nothing that is here
        if top not in self._paths:
            paths = self._read(source, server)
            for place, path in enumerate(paths):
                self._paths.setdefault(path, paths[place:])
        return self._paths[top]

    def _read(
        self, source: storage.DiskSource, server: str
    ) -> tuple[str, ...]:
        try:
            if not source.is_chain_known:
                _require(source)
                source = self._reader.completed(source)
        except FileNotFoundError:
            pass  # nothing is read through a file that is missing
        except (exception.UnsafeDisk, exception.ProgramFailed, OSError) as e:
            self._unknown[
                f'Server {server}: it is not known what is below '
                f'{source.describe()}: {e}'
            ] = None
        return tuple(
            layer.location
            for layer in source.layers()
            if isinstance(layer.location, str)
        )

    def _identities(
        self, source: storage.DiskSource, server: str
    ) -> Iterator[open_files.Identity]:
        for path in self.paths(source, server):
            with contextlib.suppress(OSError):
                found = open_files.identity(path)
                if found is not None:
                    yield found


def _require(source: storage.DiskSource) -> None:
    """Raise FileNotFoundError if a disk is a file that is missing."""
    path = source.location
    if isinstance(path, str) and open_files.identity(path) is None:
        raise FileNotFoundError(path)


def _disks(
    xml: str, find: disk_xml.VolumeFinder
) -> Iterator[tuple[str, storage.DiskSource]]:
    for disk in disk_xml.disks(xml, find):
        if disk.readable is not None:
            yield disk.device, disk.readable
