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

"""An instance, its flavor and its disks, as plain data."""

from collections.abc import Mapping
import dataclasses


@dataclasses.dataclass(frozen=True)
class Flavor:
    """The flavor that an instance was made with.

    ``memory_mb`` and ``swap_mb`` are in MiB, ``root_gb`` and ``ephemeral_gb``
    in GiB, as in Nova.  ``id`` is None where it is not known: not every Nova
    writes it into the guest's metadata.
    """

    name: str
    memory_mb: int
    root_gb: int
    id: str | None = None
    vcpus: int = 0
    swap_mb: int = 0
    ephemeral_gb: int = 0
    extra_specs: Mapping[str, str] = dataclasses.field(
        default_factory=dict, hash=False
    )


@dataclasses.dataclass(frozen=True)
class DiskChoice:
    """The disks of an instance that a request is about.

    ``named`` are target names, such as ``vdb``; the first is taken for the
    root disk.  If none is named, the root disk is the one that the instance
    boots from.  ``is_every`` adds every other disk of the instance, except
    volumes of Cinder if ``without_volumes`` is set.  ``if_live`` adds none if
    the instance would have to be suspended for them, or one can't be read.
    """

    named: tuple[str, ...] = ()
    is_every: bool = False
    without_volumes: bool = False
    if_live: bool = False

    @property
    def root(self) -> str | None:
        """The target name of the root disk, None if no disk is named."""
        return self.named[0] if self.named else None

    @property
    def is_several(self) -> bool:
        """True if the request may be about more than one disk."""
        return self.is_every or len(self.named) > 1


@dataclasses.dataclass(frozen=True)
class Instance:
    """The server of which a user takes an image.

    ``name`` is the name that the user gave, ``image_ref`` the id of the image
    that the instance was booted from; user and project are ids.  A field is
    None where Nova has not written it into the guest's metadata.

    ``disks`` are those that a request is about.
    """

    uuid: str
    name: str
    project_id: str | None = None
    user_id: str | None = None
    image_ref: str | None = None
    flavor: Flavor | None = None
    disks: DiskChoice = DiskChoice()


@dataclasses.dataclass(frozen=True)
class BlockDevice:
    """A disk of an instance, as its guest has it now.

    ``name`` is the target name in the guest (``vda``), ``bus`` and
    ``device_type`` are libvirt's words, which Nova uses, too.  ``volume_id``
    is None for a disk that is no volume.  ``in_file`` is True if the disk is
    a file of this host; then only QEMU can take a snapshot of it while the
    guest runs.
    """

    name: str
    bus: str
    device_type: str
    volume_id: str | None
    in_file: bool
