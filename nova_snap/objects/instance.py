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

"""What is known of an instance, apart from how it is run."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Flavor:
    """The size that an instance was made with.

    ``memory_mb`` is in MiB, ``root_gb`` in GiB, as in Nova.
    """

    name: str
    memory_mb: int
    root_gb: int


@dataclasses.dataclass(frozen=True)
class Instance:
    """What the user snapshots.

    ``name`` is the one that the user gave, ``image_ref`` the id of the image
    that it was booted from; both user and project are ids.  None where it is
    not known: only what Nova wrote into the guest's metadata is.
    """

    uuid: str
    name: str
    project_id: str | None = None
    user_id: str | None = None
    image_ref: str | None = None
    flavor: Flavor | None = None


@dataclasses.dataclass(frozen=True)
class BlockDevice:
    """A disk of an instance, as its guest has it now.

    ``name`` is the guest's (``vda``), ``bus`` and ``device_type`` are
    libvirt's words, which Nova uses, too.  ``volume_id`` is None for a disk
    that is no volume; ``in_file`` says that the host's QEMU has the bytes in
    a file, so that only it can take a snapshot while it runs.
    """

    name: str
    bus: str
    device_type: str
    volume_id: str | None
    in_file: bool
