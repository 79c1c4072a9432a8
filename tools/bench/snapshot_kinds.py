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

"""The kinds of snapshots that are compared, and the commands for each step.

Open this file to measure another kind.  A command that a program does not
have is not there; one that the libvirt of the host refuses is measured as
"refused".
"""

from collections.abc import Mapping
import dataclasses
import enum


class Step(enum.StrEnum):
    """What is measured of each kind, in this order."""

    CREATE = 'create'
    LIST = 'list'
    REVERT = 'revert'
    DELETE = 'delete'


NOVA_SNAP = 'nova-snap'
VIRSH = 'virsh'

#: Arguments of a program, by step; ``{server}``, ``{name}`` and the file
#: ``{memory}`` are filled in.
Commands = Mapping[Step, str]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of snapshot.

    :ivar commands: by program.
    :ivar has_memory: the memory of the guest is filled first.
    :ivar stops: the guest is off once it is taken.
    """

    name: str
    commands: Mapping[str, Commands]
    has_memory: bool = False
    stops: bool = False


def _own(create: str, revert: str = '') -> Commands:
    return {
        Step.CREATE: f'snapshot-create {{server}} {{name}} {create}',
        Step.LIST: 'snapshot-list {server}',
        Step.REVERT: f'snapshot-revert {{server}} {{name}} {revert}',
        Step.DELETE: 'snapshot-delete {server} {name}',
    }


def _virsh(create: str, revert: str = '') -> Commands:
    return {
        Step.CREATE: f'snapshot-create-as {{server}} {{name}} {create}',
        Step.LIST: 'snapshot-list {server}',
        Step.REVERT: f'snapshot-revert {{server}} {{name}} {revert}',
        Step.DELETE: 'snapshot-delete {server} {name}',
    }


#: virsh has no list of saved memory, and leaves the file to who made it.
_VIRSH_SAVE = {
    Step.CREATE: 'save {server} {memory}',
    Step.REVERT: 'restore {memory}',
}

#: The disks of the image replace those of the guest, which are removed.
_IMAGE = {
    Step.CREATE: 'image-create {server} {name}',
    Step.LIST: 'image-list',
    Step.REVERT: 'rebuild {server} {name} --delete-old',
    Step.DELETE: 'image-delete {name}',
}

#: In the order in which they are measured.
KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            'disk',
            {
                NOVA_SNAP: _own('--disk', '--start'),
                VIRSH: _virsh('--disk-only --atomic', '--running'),
            },
        ),
        Kind(
            'disk-quiesced',
            {
                NOVA_SNAP: _own('--disk --quiesce', '--start'),
                VIRSH: _virsh('--disk-only --atomic --quiesce', '--running'),
            },
        ),
        Kind(
            'system-external',
            {
                NOVA_SNAP: _own('--system'),
                VIRSH: _virsh('--atomic --memspec file={memory}'),
            },
            has_memory=True,
        ),
        Kind(
            'system-external-live',
            {
                NOVA_SNAP: _own('--system --live'),
                VIRSH: _virsh('--atomic --live --memspec file={memory}'),
            },
            has_memory=True,
        ),
        Kind(
            'system-internal',
            {NOVA_SNAP: _own('--system --internal'), VIRSH: _virsh('')},
            has_memory=True,
        ),
        Kind(
            'memory',
            {NOVA_SNAP: _own('--memory'), VIRSH: _VIRSH_SAVE},
            has_memory=True,
            stops=True,
        ),
        Kind('image', {NOVA_SNAP: _IMAGE}),
    )
}
