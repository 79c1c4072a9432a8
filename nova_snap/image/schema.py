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


"""Conversion and checks of image records by the schema of Glance's API v2.

Open this file when a field of a record is lost, or when a value that Glance
accepts is rejected here.  https://docs.openstack.org/api-ref/image/v2/
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

from nova_snap.image import api

#: From a field of :class:`~nova_snap.image.api.Image` to that of the schema.
_NAMES = {
    field.name: field.name
    for field in dataclasses.fields(api.Image)
    if field.name != 'properties'
} | {'hash_algorithm': 'os_hash_algo', 'hash_value': 'os_hash_value'}

#: Fields that a client may set and change.
WRITABLE = frozenset(
    (
        'name',
        'disk_format',
        'container_format',
        'visibility',
        'min_disk',
        'min_ram',
        'properties',
    )
)

#: Fields of the schema that have no field in ``Image`` and are no property.
_OTHERS = frozenset(
    (
        'checksum',
        'direct_url',
        'file',
        'locations',
        'os_hidden',
        'schema',
        'self',
        'stores',
        'tags',
        'virtual_size',
    )
)
_RESERVED = frozenset(('location', 'deleted', 'deleted_at'))
_RESERVED_PREFIX = 'os_glance'

#: Glance's defaults; the options in its ``[image_format]`` can change them.
DISK_FORMATS = frozenset(
    [
        'ami',
        'ari',
        'aki',
        'vhd',
        'vhdx',
        'vmdk',
        'raw',
        'qcow2',
        'vdi',
        'iso',
        'ploop',
    ]
)
CONTAINER_FORMATS = frozenset(
    ['ami', 'ari', 'aki', 'bare', 'ovf', 'ova', 'docker', 'compressed']
)
VISIBILITIES = frozenset(['public', 'private', 'shared', 'community'])

#: Characters of an image's name, and of a property's name.
MAX_NAME = 255
#: Bytes of a property's value, by the type of its column in Glance's database.
MAX_VALUE = 65535


def from_fields(fields: Mapping[str, Any]) -> api.Image:
    """Return the record that the fields of the schema describe."""
    known = {
        ours: fields[theirs]
        for ours, theirs in _NAMES.items()
        if fields.get(theirs) is not None
    }
    return api.Image(
        **{'name': '', **known},
        properties={
            key: str(value)
            for key, value in fields.items()
            if value is not None and _is_property(key)
        },
    )


def to_fields(image: api.Image) -> dict[str, Any]:
    """Return the fields of the schema, properties at the top level."""
    fields = {theirs: getattr(image, ours) for ours, theirs in _NAMES.items()}
    return {**image.properties, **fields}


def writable_fields(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return changed fields of an image as a request to Glance has them.

    :raises ValueError: a field can't be changed by a client, or a property
        has the name of a field.
    """
    if refused := sorted(changes.keys() - WRITABLE):
        raise ValueError(f'{", ".join(refused)} cannot be changed.')
    properties = changes.get('properties', {})
    _check_keys(properties)
    fields = {k: v for k, v in changes.items() if k != 'properties'}
    return {**properties, **fields}


def check(image: api.Image) -> None:
    """Raise an error if Glance would reject the record.

    :raises ValueError: names the value that is not accepted, and the reason.
    """
    if len(image.name) > MAX_NAME:
        raise ValueError(
            f'the name has {len(image.name)} characters; '
            f'at most {MAX_NAME} are possible.'
        )
    _check_characters('the name', image.name)
    _check_choice('disk format', image.disk_format, DISK_FORMATS)
    _check_choice(
        'container format', image.container_format, CONTAINER_FORMATS
    )
    _check_choice('visibility', image.visibility, VISIBILITIES)
    for what in ('min_disk', 'min_ram'):
        if not 0 <= getattr(image, what) < 2**31:
            raise ValueError(f'{what} is out of range.')
    _check_keys(image.properties)
    for key, value in image.properties.items():
        _check_value(key, value)


def is_reserved(key: str) -> bool:
    """Return True if the key is a field, so that no property can have it."""
    return (
        not _is_property(key)
        or key in _RESERVED
        or key.startswith(_RESERVED_PREFIX)
    )


def _is_property(key: str) -> bool:
    return key not in _OTHERS and key not in _NAMES.values()


def _check_choice(
    what: str, value: str | None, choices: frozenset[str]
) -> None:
    if value is not None and value not in choices:
        raise ValueError(
            f'{value!r} is no {what}; one of '
            f'{", ".join(sorted(choices))} is needed.'
        )


def _check_keys(properties: Mapping[str, Any]) -> None:
    for key in properties:
        if not 0 < len(key) <= MAX_NAME:
            raise ValueError(
                f'the property {key[:32]!r} needs a name of 1 to '
                f'{MAX_NAME} characters.'
            )
        if is_reserved(key):
            raise ValueError(
                f'a property cannot be named {key!r}; that name is reserved.'
            )


def _check_characters(what: str, text: str) -> None:
    """Raise ValueError for characters that Glance's database does not store.

    The database stores characters of up to three bytes in UTF-8; emoji and
    rare ideographs have four.
    """
    if any(ord(character) > 0xFFFF for character in text):
        raise ValueError(f'{what} has characters of more than three bytes.')


def _check_value(key: str, value: Any) -> None:
    if not isinstance(value, str):
        raise ValueError(f'the property {key!r} is not a string.')
    _check_characters(f'the property {key!r}', key + value)
    if len(value.encode()) > MAX_VALUE:
        raise ValueError(
            f'the property {key!r} has more than {MAX_VALUE} bytes.'
        )
