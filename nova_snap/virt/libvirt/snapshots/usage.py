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
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
from typing import Any

from nova_snap import exception
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt.snapshots import calls
from nova_snap.virt.libvirt.snapshots import metadata
from nova_snap.virt.storage import backing_chain
from nova_snap.virt.storage import disk_source as storage
from nova_snap.virt.storage import open_files


@dataclasses.dataclass(frozen=True)
class Layer:
    """A file of a chain that could be looked at."""

    identity: open_files.Identity
    path: str
    type: str
    format: str

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> 'Layer':
        """Make it from :func:`dataclasses.asdict` in JSON."""
        return cls(**{**data, 'identity': tuple(data['identity'])})

    @property
    def source(self) -> storage.DiskSource:
        """The layer without those below it."""
        return storage.DiskSource(
            self.type, self.format, self.path, is_chain_known=False
        )


@dataclasses.dataclass(frozen=True)
class Chain:
    """The files of a disk; as it is, or as it was.

    :ivar uuid: the guest's.
    :ivar snapshot: the domain snapshot that has the disk; None if the guest
        has it now.
    :ivar is_overlay: it is what was written after that domain snapshot.
    :ivar is_inside: the topmost file has that domain snapshot in itself.
    :ivar layers: the files, from the top.
    """

    uuid: str
    server: str
    device: str
    snapshot: str | None
    is_overlay: bool
    is_inside: bool
    layers: tuple[Layer, ...]

    @property
    def files(self) -> frozenset[open_files.Identity]:
        """The files, by identity."""
        return frozenset(layer.identity for layer in self.layers)


@dataclasses.dataclass(frozen=True)
class _Found:
    """A disk, whose it is, and the domain snapshot that has it."""

    domain: calls.Domain
    device: str
    source: storage.DiskSource
    snapshot: str | None = None
    is_overlay: bool = False
    is_inside: bool = False


class Chains:
    """The backing chains of a host, each file read once.

    :param reader: of the layers that only headers name.
    """

    def __init__(self, reader: backing_chain.Reader) -> None:
        self._reader = reader
        self._found: dict[str, tuple[storage.DiskSource, ...]] = {}
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
            _Found(domain, device, source)
            for xml in ('xml', 'definition')
            for domain in domains
            for device, source in _disks(getattr(domain, xml), find)
        ] + [disk for domain in domains for disk in _kept(domain)]
        found.sort(key=lambda disk: not disk.source.is_chain_known)
        return tuple(
            dict.fromkeys(
                Chain(
                    uuid=disk.domain.uuid,
                    server=disk.domain.name,
                    device=disk.device,
                    snapshot=disk.snapshot,
                    is_overlay=disk.is_overlay,
                    is_inside=disk.is_inside,
                    layers=tuple(self._layers(disk.source, disk.domain.name)),
                )
                for disk in found
            )
        )

    def _layers(
        self, source: storage.DiskSource, server: str
    ) -> Iterator[Layer]:
        for layer in self._sources(source, server):
            path = layer.describe()
            with contextlib.suppress(OSError):
                found = open_files.identity(path)
                if found is not None:
                    yield Layer(found, path, layer.type, layer.format)

    def _sources(
        self, source: storage.DiskSource, server: str
    ) -> tuple[storage.DiskSource, ...]:
        """Return a disk's layers, as far as they are known."""
        top = source.location
        if not isinstance(top, str):
            return ()  # in Ceph, over nothing that is here
        if top not in self._found:
            layers = self._read(source, server)
            for place, layer in enumerate(layers):
                self._found.setdefault(layer.describe(), layers[place:])
        return self._found[top]

    def _read(
        self, source: storage.DiskSource, server: str
    ) -> tuple[storage.DiskSource, ...]:
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
            layer
            for layer in source.layers()
            if isinstance(layer.location, str)
        )


def _kept(domain: calls.Domain) -> Iterator[_Found]:
    """Yield the disks that the domain snapshots of a domain have.

    One that has the memory alone needs the disks as they were then, too.
    """
    for snapshot in domain.snapshots:
        for disk in snapshot.disks:
            needs = disk.is_in or not snapshot.has_disks
            if disk.frozen is not None and needs:
                yield _Found(
                    domain,
                    disk.device,
                    disk.frozen,
                    snapshot.name,
                    is_inside=disk.mode == metadata.INTERNAL,
                )
            if disk.overlay is not None and disk.is_in:
                yield _Found(
                    domain,
                    disk.device,
                    disk.overlay,
                    snapshot.name,
                    is_overlay=True,
                )


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
