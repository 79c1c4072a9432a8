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

"""The root disk of a server, found by Nova's functions and rules."""

import dataclasses
from typing import Any
from typing import Self

import nova.conf
from nova.virt.libvirt import utils as libvirt_utils

from nova_snap.virt.storage import disk_source as storage

CONF = nova.conf.CONF


@dataclasses.dataclass(frozen=True)
class RootDisk:
    """A root disk in Nova's terms; ``image_format`` is a disk_format."""

    path: str
    source_type: str
    image_format: str

    @classmethod
    def of(cls, guest: Any) -> Self:
        """Return the root disk of one of Nova's guests.

        The rules are those of Nova's own ``snapshot()``.
        """
        path, source_format = libvirt_utils.find_disk(guest)
        found = libvirt_utils.get_disk_type_from_path(path)
        source_type = found or source_format
        return cls(
            path=path,
            source_type=source_type,
            image_format=storage.disk_format(
                source_type, CONF.libvirt.snapshot_image_format
            ),
        )

    @property
    def is_rbd(self) -> bool:
        """True if the disk is in Ceph."""
        return self.source_type == 'rbd'
