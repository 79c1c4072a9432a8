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


"""Schemas of the body of a rebuild, as they are in Nova.

https://docs.openstack.org/api-ref/compute/#rebuild-server-rebuild-action
"""

import bisect
import copy
from typing import Any

Schema = dict[str, Any]

NAME: Schema = {
    'type': 'string',
    'minLength': 1,
    'maxLength': 255,
    'format': 'name',
}

_METADATA: Schema = {
    'type': 'object',
    'patternProperties': {
        r'^[a-zA-Z0-9_:. -]{1,255}\Z': {'type': 'string', 'maxLength': 255},
    },
    'additionalProperties': False,
}

_BOOLEAN: Schema = {
    'type': ['boolean', 'string'],
    'enum': [
        *(True, 'True', 'TRUE', 'true', '1', 'ON', 'On', 'on'),
        *('YES', 'Yes', 'yes'),
        *(False, 'False', 'FALSE', 'false', '0', 'OFF', 'Off', 'off'),
        *('NO', 'No', 'no'),
    ],
}

_PERSONALITY: Schema = {
    'type': 'array',
    'items': {
        'type': 'object',
        'properties': {
            'path': {'type': 'string'},
            'contents': {'type': 'string', 'format': 'base64'},
        },
        'additionalProperties': False,
    },
}

_FIRST: Schema = {
    'name': NAME,
    'imageRef': {'type': 'string', 'format': 'uuid'},
    'adminPass': {'type': 'string'},
    'metadata': _METADATA,
    'preserve_ephemeral': _BOOLEAN,
    'OS-DCF:diskConfig': {'type': 'string', 'enum': ['AUTO', 'MANUAL']},
    'accessIPv4': {'type': 'string', 'format': 'ipv4'},
    'accessIPv6': {'type': 'string', 'format': 'ipv6'},
    'personality': _PERSONALITY,
}

#: Fields by the microversion that has added them; None: that removed them.
_CHANGES: tuple[tuple[int, dict[str, Schema | None]], ...] = (
    (
        19,
        {
            'description': {
                'type': ['string', 'null'],
                'minLength': 0,
                'maxLength': 255,
            }
        },
    ),
    (
        54,
        {
            'key_name': {
                'oneOf': [
                    {'type': 'string', 'minLength': 1, 'maxLength': 255},
                    {'type': 'null'},
                ]
            }
        },
    ),
    (
        57,
        {
            'personality': None,
            'user_data': {
                'type': ['string', 'null'],
                'format': 'base64',
                'maxLength': 65535,
            },
        },
    ),
    (
        63,
        {
            'trusted_image_certificates': {
                'type': ['array', 'null'],
                'minItems': 1,
                'maxItems': 50,
                'uniqueItems': True,
                'items': {'type': 'string', 'minLength': 1},
            }
        },
    ),
    (
        90,
        {
            'hostname': {
                'type': 'string',
                'pattern': r'^[a-zA-Z0-9]+[a-zA-Z0-9-]*[a-zA-Z0-9]+\Z',
                'minLength': 2,
                'maxLength': 63,
            }
        },
    ),
)


def _schema(fields: Schema) -> Schema:
    return {
        'type': 'object',
        'properties': {
            'rebuild': {
                'type': 'object',
                'properties': fields,
                'required': ['imageRef'],
                'additionalProperties': False,
            },
        },
        'required': ['rebuild'],
        'additionalProperties': False,
    }


def _schemas() -> dict[int, Schema]:
    """Return the schemas by the first microversion of each."""
    fields = dict(_FIRST)
    found = {1: _schema(dict(fields))}
    for minor, changes in _CHANGES:
        for name, schema in changes.items():
            if schema is None:
                del fields[name]
            else:
                fields[name] = schema
        found[minor] = _schema(dict(fields))
    return copy.deepcopy(found)


SCHEMAS = _schemas()

#: Of the newest microversion.
LATEST = SCHEMAS[max(SCHEMAS)]


def of_version(minor: int) -> Schema:
    """Return the schema of a microversion."""
    known = sorted(SCHEMAS)
    return SCHEMAS[known[bisect.bisect(known, minor) - 1]]
