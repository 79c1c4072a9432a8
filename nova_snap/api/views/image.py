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
"""Glance's JSON of images.

https://docs.openstack.org/api-ref/image/v2/
"""

from typing import Any

from nova_snap.image import api as image_api
from nova_snap.image import schema as image_schema

#: The version of Glance's API whose fields these are; 2.7 has hashes.
VERSION = 'v2.7'

SCHEMA = '/v2/schemas/image'


def shown(image: image_api.Image, owner: str) -> dict[str, Any]:
    """Return what ``GET /v2/images/{id}`` has.

    :param owner: the project that the image belongs to.
    """
    path = f'/v2/images/{image.id}'
    return {
        **image_schema.to_fields(image),
        'owner': owner,
        'checksum': None,
        'virtual_size': None,
        'os_hidden': False,
        'tags': [],
        'self': path,
        'file': f'{path}/file',
        'schema': SCHEMA,
    }


def schema() -> dict[str, Any]:
    """Return the JSON schema of images, by which clients read them."""
    texts = [
        "checksum",
        "container_format",
        "created_at",
        "disk_format",
        "file",
        "id",
        "name",
        "os_hash_algo",
        "os_hash_value",
        "owner",
        "schema",
        "self",
        "status",
        "updated_at",
        "visibility",
    ]
    types: dict[str, Any] = {
        **dict.fromkeys(texts, ['null', 'string']),
        **dict.fromkeys(('min_disk', 'min_ram'), 'integer'),
        **dict.fromkeys(('size', 'virtual_size'), ['null', 'integer']),
        **dict.fromkeys(('os_hidden', 'protected'), 'boolean'),
        'tags': 'array',
    }
    return {
        'name': 'image',
        'properties': {name: {'type': kind} for name, kind in types.items()},
        'additionalProperties': {'type': 'string'},
        'links': [
            {'rel': 'self', 'href': '{self}'},
            {'rel': 'enclosure', 'href': '{file}'},
            {'rel': 'describedby', 'href': '{schema}'},
        ],
    }
