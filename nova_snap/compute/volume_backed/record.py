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

"""The image record of an instance that boots from a volume, as Nova makes it.

Open this file when a property differs from Nova's.  Pure functions.  The
record has no data: its property ``block_device_mapping`` names snapshots of
volumes, from which Nova makes new volumes.  The record of a root disk that is
read has that property, too, if snapshots of further volumes belong to it.
The fields of an entry:
https://docs.openstack.org/nova/latest/user/block-device-mapping.html
"""

from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import json
from typing import Any
import uuid

from nova_snap import exception
from nova_snap.compute import image_record
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.volume import api as volume_api

#: As in Nova 34.  Glance 33 inspects the data, and would not accept empty data
#: as qcow2.
DISK_FORMAT = 'raw'

MAPPING = 'block_device_mapping'

#: Properties that are never inherited nor set by metadata.
_OWN = (MAPPING, 'bdm_v2', 'root_device_name')

#: Fields of an image that Cinder keeps among the image's properties.
_IMAGE_FIELDS = (
    'image_id',
    'image_name',
    'size',
    'checksum',
    'container_format',
    'disk_format',
    'min_ram',
    'min_disk',
)

#: Fields of an entry that Nova 34 writes, and that have no value in an image.
_EMPTY_FIELDS = (
    'encrypted',
    'encryption_format',
    'encryption_options',
    'encryption_secret_uuid',
    'guest_format',
    'image_id',
    'no_device',
    'tag',
    'volume_id',
    'volume_type',
)


@dataclasses.dataclass(frozen=True)
class AttachedVolume:
    """A volume, and the disk of the instance as which it is attached."""

    device: instance_lib.BlockDevice
    volume: volume_api.Volume


def build(
    instance: instance_lib.Instance,
    root: AttachedVolume,
    name: str,
    metadata: Mapping[str, str],
    non_inheritable: Collection[str],
) -> image_api.Image:
    """Build the record to create; :func:`mapping` is added to it later.

    :param root: the volume that the instance boots from; properties of its
        image are inherited.
    :param non_inheritable: as of :func:`.image_record.build`.
    """
    base = base_image(root.volume)
    properties = image_record.inherited(base, non_inheritable)
    # Empty as in Nova, since the instance was not booted from an image.
    properties['base_image_ref'] = ''
    properties.update(metadata)
    for key in _OWN:
        properties.pop(key, None)
    properties['root_device_name'] = _path(root.device)
    return image_api.Image(
        id=str(uuid.uuid4()),
        name=name,
        status=image_api.ImageStatus.QUEUED,
        disk_format=DISK_FORMAT,
        container_format='bare',
        visibility='private',
        min_disk=image_record.min_disk(instance, base, virtual_size=0),
        min_ram=base.min_ram,
        properties=properties,
    )


def base_image(volume: volume_api.Volume) -> image_api.Image:
    """Return the image that a volume was made from, as the volume keeps it."""
    kept = volume.image_metadata
    return image_api.Image(
        id=kept.get('image_id', ''),
        name=kept.get('image_name', ''),
        status=image_api.ImageStatus.ACTIVE,
        min_disk=_number(kept.get('min_disk')),
        min_ram=_number(kept.get('min_ram')),
        properties={k: v for k, v in kept.items() if k not in _IMAGE_FIELDS},
    )


def mapping(
    attached: Sequence[AttachedVolume],
    snapshot_ids: Sequence[str],
    root_device: str | None = None,
) -> dict[str, str]:
    """Return the properties that name the snapshots, the root volume first.

    ``delete_on_termination`` is False for the new volumes, since only Nova's
    database has the value of the old ones.

    :param root_device: the target name of a root disk that is no volume.  If
        no entry has the boot_index 0, Nova 34 makes the root disk of the
        image's own data (_check_and_transform_bdm); with that name, no volume
        can get it.
    """
    entries = [
        _entry(
            volume,
            snapshot_id,
            boot_index=None if index or root_device else 0,
        )
        for index, (volume, snapshot_id) in enumerate(
            zip(attached, snapshot_ids, strict=True)
        )
    ]
    found = {MAPPING: json.dumps(entries), 'bdm_v2': 'True'}
    if root_device is not None:
        found['root_device_name'] = f'/dev/{root_device}'
    return found


def _entry(
    attached: AttachedVolume, snapshot_id: str, boot_index: int | None
) -> dict[str, Any]:
    return {
        'source_type': 'snapshot',
        'destination_type': 'volume',
        'snapshot_id': snapshot_id,
        'volume_size': attached.volume.size,
        'boot_index': boot_index,
        'delete_on_termination': False,
        'disk_bus': attached.device.bus,
        'device_type': attached.device.device_type,
        'device_name': _path(attached.device),
        **dict.fromkeys(_EMPTY_FIELDS),
    }


def named_snapshots(image: image_api.Image) -> list[str]:
    """Return the ids of the volume snapshots that an image names.

    :raises Invalid: the image's block_device_mapping can't be read.
    """
    try:
        return list(_snapshot_ids(image.properties.get(MAPPING, '[]')))
    except (ValueError, TypeError, AttributeError) as error:
        raise exception.Invalid(
            f'The property {MAPPING} of image {image.id} cannot be read: '
            f'{error}'
        ) from error


def _snapshot_ids(text: str) -> Iterator[str]:
    for entry in json.loads(text):
        snapshot_id = entry.get('snapshot_id')
        if entry.get('source_type') == 'snapshot' and snapshot_id:
            yield str(snapshot_id)


def _path(device: instance_lib.BlockDevice) -> str:
    return f'/dev/{device.name}'


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0
