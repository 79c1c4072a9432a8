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

"""What of a snapshot must not depend on the driver, to compare it.

The image's record, the task states one after the other, and the diary of the
server's actions.
"""

import dataclasses
import json
import re
from typing import Any

from tests.openstack import base
from tests.openstack import server as server_lib

#: Of an image: what is each one's own, or depends on the moment.
OWN = frozenset(
    {
        'id',
        'created_at',
        'updated_at',
        'file',
        'self',
        'checksum',
        'os_hash_value',
        'size',
    }
)

NOTIFICATION = re.compile(
    r'oslo\.messaging\.notification\.compute\.instance\.update '
    r'.*?(\{.*\})\s*$',
    re.MULTILINE,
)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """All that a snapshot leaves with Nova and Glance.

    :ivar image: Glance's record, without :data:`OWN`.
    :ivar task_states: in the order in which each came up first.  Nova's own
        driver tries a snapshot within the storage first, and so shows two of
        them twice within milliseconds; that is no part of the contract.
    :ivar actions: what the snapshot added to the server's diary.
    :ivar status: of the server, afterwards.
    """

    image: dict[str, Any]
    task_states: list[str | None]
    actions: list[tuple[str, list[tuple[str, str]]]]
    status: str


def take(case: base.CloudTestCase, server: server_lib.Server) -> Outcome:
    """Take an image and write down all of it; the image is deleted."""
    log = case.cloud.layout.log / 'nova-conductor.log'
    begin = log.stat().st_size
    before = len(server.actions())
    image_id = case.take(server, 'compared')
    text = log.read_bytes()[begin:].decode(errors='replace')
    actions = server.actions()
    outcome = Outcome(
        image=record(case, image_id),
        task_states=task_states(text, server.id),
        # The newest comes first.
        actions=actions[: len(actions) - before],
        status=server.status(),
    )
    case.cloud.connection.image.delete_image(image_id)
    return outcome


def record(case: base.CloudTestCase, image_id: str) -> dict[str, Any]:
    """Glance's own record of an image, as its API has it."""
    answer = case.cloud.connection.image.get(f'/images/{image_id}')
    fields: dict[str, Any] = answer.json()
    return {name: fields[name] for name in fields if name not in OWN}


def task_states(log: str, server_id: str) -> list[str | None]:
    """Return a server's task states in the notifications of a log."""
    states: list[str | None] = []
    for text in NOTIFICATION.findall(log):
        payload = json.loads(text)['payload']
        if payload['instance_id'] == server_id:
            states += [payload['old_task_state'], payload['new_task_state']]
    return list(dict.fromkeys(states))
