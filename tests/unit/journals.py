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

"""Journals as a process that was killed leaves them."""

import json
import pathlib
import uuid

from nova_snap import journal as journal_lib
from nova_snap import undo


def leave(
    directory: pathlib.Path,
    instance_uuid: str,
    instance_name: str,
    *steps: undo.Step,
) -> pathlib.Path:
    """Write the entry of an operation that was killed; return its path."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / f'{uuid.uuid4()}.json'
    content = {
        'version': journal_lib.VERSION,
        'instance_uuid': instance_uuid,
        'instance_name': instance_name,
        'begun_at': '2026-01-01T00:00:00Z',
        'steps': [{'kind': step.kind, 'data': step.data()} for step in steps],
    }
    path.write_text(json.dumps(content))
    return path
