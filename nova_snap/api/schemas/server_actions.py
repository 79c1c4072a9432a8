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

"""Schemas of the bodies of server actions, with Nova's limits.

https://docs.openstack.org/api-ref/compute/#servers-run-an-action-servers-action
"""

from typing import Any

NAME = {'type': 'string', 'minLength': 1, 'maxLength': 255, 'format': 'name'}

METADATA = {
    'type': 'object',
    'patternProperties': {
        r'^[a-zA-Z0-9_:. -]{1,255}\Z': {'type': 'string', 'maxLength': 255},
    },
    'additionalProperties': False,
}

CREATE_IMAGE: dict[str, Any] = {
    'type': 'object',
    'properties': {
        'createImage': {
            'type': 'object',
            'properties': {'name': NAME, 'metadata': METADATA},
            'required': ['name'],
            'additionalProperties': False,
        },
    },
    'required': ['createImage'],
    'additionalProperties': False,
}

CREATE_BACKUP: dict[str, Any] = {
    'type': 'object',
    'properties': {
        'createBackup': {
            'type': 'object',
            'properties': {
                'name': NAME,
                'backup_type': {'type': 'string', 'maxLength': 255},
                'rotation': {
                    'type': ['integer', 'string'],
                    'pattern': r'^[0-9]{1,9}\Z',
                    'minimum': 0,
                    'maximum': 999_999_999,
                },
                'metadata': METADATA,
            },
            'required': ['name', 'backup_type', 'rotation'],
            'additionalProperties': False,
        },
    },
    'required': ['createBackup'],
    'additionalProperties': False,
}
