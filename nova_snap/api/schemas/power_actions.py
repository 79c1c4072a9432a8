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

"""Schemas of the bodies of power actions; Nova takes any value of most.

https://docs.openstack.org/api-ref/compute/#servers-run-an-action-servers-action
"""

from typing import Any

Schema = dict[str, Any]


def _action(name: str, value: Schema) -> Schema:
    """Return the schema of a body with nothing but one action."""
    return {
        'type': 'object',
        'properties': {name: value},
        'required': [name],
        'additionalProperties': False,
    }


_REBOOT: Schema = {
    'type': 'object',
    'properties': {
        'type': {
            'type': 'string',
            'enum': ['HARD', 'Hard', 'hard', 'SOFT', 'Soft', 'soft'],
        },
    },
    'required': ['type'],
    'additionalProperties': False,
}

#: By the name of the action.
SCHEMAS: dict[str, Schema] = {
    **{
        name: _action(name, {})
        for name in (
            'os-start',
            'os-stop',
            'pause',
            'resume',
            'suspend',
            'unpause',
        )
    },
    'reboot': _action('reboot', _REBOOT),
}
