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

"""The layers of a disk, and the image name that QEMU's tools open.

Every layer of a disk is named with its format, down to the base image, so
that no format is ever probed: a guest may write a qcow2 header into the first
sector of its raw disk, and probing would follow the header to any file of the
host.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import enum
import json
from typing import Any


def key_object(secret: str) -> str:
    """Return the id of the object with a passphrase, by libvirt's secret.

    A layer that QEMU encrypts refers to its passphrase by this id, one in Ceph
    to the key of its user.
    """
    return f'key-{secret}'


class SourceType(enum.StrEnum):
    """The storage of a root disk, as in Nova's images_type."""

    QCOW2 = 'qcow2'
    RAW = 'raw'
    LVM = 'lvm'
    RBD = 'rbd'


#: Source types that hold raw bytes, whatever the guest sees in them.
_WITHOUT_FORMAT = (SourceType.LVM, SourceType.RBD)


def disk_format(source_type: str, wanted: str | None = None) -> str:
    """Return Glance's disk_format of an image of a disk.

    Nova's rule (``snapshot()`` of its libvirt driver): the configured format,
    else that of the disk, where LVM and RBD count as raw.

    :param source_type: a :class:`SourceType`, or another word of Nova's.
    :param wanted: ``[libvirt] snapshot_image_format``.
    """
    chosen = wanted or source_type
    return 'raw' if chosen in _WITHOUT_FORMAT else str(chosen)


@dataclasses.dataclass(frozen=True)
class RbdLocation:
    """An image in a Ceph pool; ``hosts`` are monitors as (name, port).

    ``secret`` is the uuid of the libvirt secret with the key of the user.
    """

    pool: str
    image: str
    hosts: tuple[tuple[str, str], ...] = ()
    user: str | None = None
    conf: str | None = None
    secret: str | None = None

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> 'RbdLocation':
        """Make the location from :func:`dataclasses.asdict` in JSON."""
        hosts = tuple((name, port) for name, port in data['hosts'])
        return cls(**{**data, 'hosts': hosts})


@dataclasses.dataclass(frozen=True)
class DiskSource:
    """One layer of a disk, and the layers below it.

    ``location`` is the path of a file or block device, or an image in Ceph.
    ``backing`` is None at the end of the chain; ``is_chain_known`` is False
    if libvirt does not report the chain, as for a guest that is shut off.
    ``data_store`` has the data of a qcow2 layer whose file has none.
    """

    type: str
    format: str
    location: str | RbdLocation
    backing: 'DiskSource | None' = None
    is_chain_known: bool = True
    encryption_secret: str | None = None
    data_store: 'DiskSource | None' = None

    def layers(self) -> Iterator['DiskSource']:
        """Yield this layer and those below it, from the top."""
        layer: DiskSource | None = self
        while layer is not None:
            yield layer
            layer = layer.backing

    @property
    def source_type(self) -> SourceType:
        """The source type; as in Nova, any block device is ``lvm``."""
        if isinstance(self.location, RbdLocation):
            return SourceType.RBD
        if self.type == 'block':
            return SourceType.LVM
        return SourceType(self.format)

    @property
    def is_encrypted(self) -> bool:
        """True if this layer or one below it is encrypted by QEMU."""
        return self.encryption_secret is not None or bool(
            self.backing and self.backing.is_encrypted
        )

    @property
    def secrets(self) -> frozenset[str]:
        """The ids of the secrets of all layers.

        They are of passphrases, and of keys of users of Ceph.
        """
        below = self.backing.secrets if self.backing else frozenset()
        own = {self.encryption_secret}
        if isinstance(self.location, RbdLocation):
            own.add(self.location.secret)
        return below | {secret for secret in own if secret is not None}

    def describe(self) -> str:
        """Return the location, for messages."""
        if isinstance(self.location, RbdLocation):
            return f'rbd:{self.location.pool}/{self.location.image}'
        return self.location


def image_name(source: DiskSource) -> str:
    """Return the name by which QEMU's tools open a disk with its chain.

    The name is a "json:" pseudo-protocol of QEMU with the driver of every
    layer, so the options ``-f`` and ``-F`` are not needed.
    """
    return 'json:' + json.dumps(_node(source))


def _node(source: DiskSource) -> dict[str, Any]:
    node: dict[str, Any] = {
        'driver': source.format,
        'file': _protocol_node(source),
    }
    if source.backing is not None:
        node['backing'] = _node(source.backing)
    elif source.format != 'raw':
        # A backing file that only the header names is not opened.
        node['backing'] = None
    if source.data_store is not None:
        node['data-file'] = _protocol_node(source.data_store)
    if source.encryption_secret is not None:
        _add_encryption(node, key_object(source.encryption_secret))
    return node


def _add_encryption(node: dict[str, Any], key: str) -> None:
    """Add LUKS, as a layer around a raw disk or as a part of the format."""
    if node['driver'] == 'raw':
        node['driver'] = 'luks'
        node['key-secret'] = key
    else:
        node['encrypt'] = {'format': 'luks', 'key-secret': key}


def _protocol_node(source: DiskSource) -> dict[str, Any]:
    if isinstance(source.location, RbdLocation):
        return _rbd_node(source.location)
    driver = 'host_device' if source.type == 'block' else 'file'
    return {'driver': driver, 'filename': source.location}


def _rbd_node(location: RbdLocation) -> dict[str, Any]:
    node: dict[str, Any] = {
        'driver': 'rbd',
        'pool': location.pool,
        'image': location.image,
    }
    if location.hosts:
        node['server'] = [
            {'host': host, 'port': port} for host, port in location.hosts
        ]
    if location.user:
        node['user'] = location.user
    if location.secret:
        node['auth-client-required'] = ['cephx']
        node['key-secret'] = key_object(location.secret)
    if location.conf:
        node['conf'] = location.conf
    return node
