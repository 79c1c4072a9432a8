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

"""The image record of a snapshot, as Nova makes it.

Open this file when a property of an image differs from Nova's.  Pure
functions; Nova's own rules are described in the compute API reference:
https://docs.openstack.org/api-ref/compute/#create-image-createimage-action
"""

from collections.abc import Collection
from collections.abc import Mapping
import uuid

from oslo_utils import units

from nova_snap import exception
from nova_snap.image import api as image_api
from nova_snap.image import schema
from nova_snap.objects import instance as instance_lib

#: Nova's limits, in characters and in items ([quota] metadata_items).
MAX_NAME = 255
MAX_METADATA_KEY = 255
MAX_METADATA_VALUE = 255
MAX_METADATA_ITEMS = 128

#: Properties of the base image that describe its data or name snapshots of
#: volumes.  Nova 34 inherits the snapshots, which may be a stranger's.
_NEVER_INHERITED = frozenset(
    ('block_device_mapping', 'bdm_v2', 'mappings', 'root_device_name')
)

#: Prefix of the properties that link the images of a set.
OWN_PREFIX = 'nova_snap:'

#: Prefixes of the same.  Glance reserves the first for itself and refuses it
#: from clients.  Nova has newer names for many properties, with "img_".  The
#: last is that of an image set's own properties.
_PREFIXES_NEVER_INHERITED = (
    'os_glance',
    'os_encrypt_',
    'os_decrypt_',
    'cinder_encryption_',
    'img_',
    OWN_PREFIX,
)

#: Properties with "img_" that describe the guest, and are inherited.
#: https://docs.openstack.org/glance/latest/admin/useful-image-properties.html
_OF_THE_GUEST = frozenset(
    (
        'img_config_drive',
        'img_hide_hypervisor_id',
        'img_hv_requested_version',
        'img_hv_type',
        'img_use_agent',
    )
)


def validate(name: str, metadata: Mapping[str, str]) -> None:
    """Raise an error for a name or metadata that Nova's API rejects.

    :raises InvalidName: the name is empty, only spaces, too long or
        unprintable.
    :raises InvalidMetadata: there are too many items, a key or value is too
        long, or a key is the name of a field of an image.
    """
    if not name.strip():
        raise exception.InvalidName(reason='it is empty.')
    if len(name) > MAX_NAME:
        raise exception.InvalidName(
            reason=f'it has {len(name)} characters; {MAX_NAME} are allowed.'
        )
    if not name.isprintable():
        raise exception.InvalidName(
            reason='it has characters that cannot be printed.'
        )
    if len(metadata) > MAX_METADATA_ITEMS:
        raise exception.InvalidMetadata(
            reason=f'it has {len(metadata)} items; {MAX_METADATA_ITEMS} are '
            'allowed.'
        )
    for key, value in metadata.items():
        _validate_item(key, value)


def _validate_item(key: str, value: str) -> None:
    if not key or len(key) > MAX_METADATA_KEY:
        raise exception.InvalidMetadata(
            reason=f'the key {key[:40]!r} has {len(key)} characters; 1 to '
            f'{MAX_METADATA_KEY} are allowed.'
        )
    if key.startswith(OWN_PREFIX):
        raise exception.InvalidMetadata(
            reason=f'the key {key!r} begins with {OWN_PREFIX!r}, which is '
            'reserved.'
        )
    if schema.is_reserved(key):
        raise exception.InvalidMetadata(
            reason=f'the key {key!r} is reserved for a field of the image.'
        )
    if len(value) > MAX_METADATA_VALUE:
        raise exception.InvalidMetadata(
            reason=f'the value of {key!r} has {len(value)} characters; '
            f'{MAX_METADATA_VALUE} are allowed.'
        )


def build(
    instance: instance_lib.Instance,
    base: image_api.Image | None,
    name: str,
    metadata: Mapping[str, str],
    disk_format: str,
    virtual_size: int,
    non_inheritable: Collection[str],
    hardware: Mapping[str, str] | None = None,
) -> image_api.Image:
    """Build the record to create, with a new id.

    :param base: the image that the instance was booted from, where it is
        known and still there.
    :param virtual_size: of the root disk, in bytes.
    :param non_inheritable: names of properties of the base image that are
        left out, besides those that never hold for another image.
    :param hardware: properties that stand in for those of the base image.
    """
    properties = inherited(base, non_inheritable)
    if base is None:
        properties.update(hardware or {})
    properties.update(metadata)
    properties.update(_own(instance))
    return image_api.Image(
        id=str(uuid.uuid4()),
        name=name,
        status=image_api.ImageStatus.QUEUED,
        disk_format=disk_format,
        container_format='bare',
        visibility='private',
        min_disk=min_disk(instance, base, virtual_size),
        min_ram=base.min_ram if base else 0,
        properties=properties,
    )


def of_further_disk(
    instance: instance_lib.Instance,
    image_id: str,
    name: str,
    properties: Mapping[str, str],
    disk_format: str,
    virtual_size: int,
) -> image_api.Image:
    """Build the record of a disk that the instance does not boot from.

    It inherits nothing: the base image is that of the root disk.

    :param image_id: of the record.
    :param virtual_size: in bytes.
    """
    return image_api.Image(
        id=image_id,
        name=name,
        status=image_api.ImageStatus.QUEUED,
        disk_format=disk_format,
        container_format='bare',
        visibility='private',
        min_disk=-(-virtual_size // units.Gi),
        properties={**properties, **_own(instance)},
    )


def inherited(
    base: image_api.Image | None, non_inheritable: Collection[str]
) -> dict[str, str]:
    """Return the properties of the base image that a snapshot inherits."""
    if base is None:
        return {}
    return {
        key: value
        for key, value in base.properties.items()
        if key not in non_inheritable and _describes_guest(key)
    }


def _describes_guest(key: str) -> bool:
    """Return True if a property holds for another disk of the guest, too."""
    return key in _OF_THE_GUEST or not (
        key in _NEVER_INHERITED or key.startswith(_PREFIXES_NEVER_INHERITED)
    )


def _own(instance: instance_lib.Instance) -> dict[str, str]:
    own = {
        'image_type': 'snapshot',
        'image_location': 'snapshot',
        'image_state': 'available',
        'instance_uuid': instance.uuid,
        'user_id': instance.user_id,
        'owner_id': instance.project_id,
        'base_image_ref': instance.image_ref,
    }
    return {key: value for key, value in own.items() if value is not None}


def min_disk(
    instance: instance_lib.Instance,
    base: image_api.Image | None,
    virtual_size: int,
) -> int:
    """Return min_disk in GiB: the larger of the flavor's and the base image's.

    The flavor is of the disk that the instance boots from.  Without one, and
    for another disk, the size of the disk, rounded up, takes its place.
    """
    of_base = base.min_disk if base else 0
    if instance.flavor is not None and instance.disks.root is None:
        return max(of_base, instance.flavor.root_gb)
    return max(of_base, -(-virtual_size // units.Gi))
