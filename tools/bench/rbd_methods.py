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

"""The ways of taking a snapshot of a disk in Ceph that are measured."""

import dataclasses

from tools.bench import methods

#: Pools of the guests' disks, and of Glance's images; and users of Ceph.
DISKS, IMAGES = 'vms', 'images'
NOVA, READER, GLANCE = 'nova', 'reader', 'glance'

OWN_DIRECT = f"""\
[snapshot]
rbd_pool = {IMAGES}
rbd_flatten = %s
"""

OWN_COLD = """\
[workarounds]
disable_libvirt_livesnapshot = true
"""

#: Of an image that need not be raw for Ceph's sake.
OWN_QCOW2 = """\
[libvirt]
snapshot_image_format = qcow2
"""

NOVA_ON_RBD = f"""\
[libvirt]
images_type = rbd
images_rbd_pool = {DISKS}
images_rbd_ceph_conf = {{ceph_conf}}
rbd_user = %s
"""


@dataclasses.dataclass(frozen=True)
class RbdMethod(methods.Method):
    """A method, and the Glance that gets its image.

    :ivar store: ``rbd`` or ``file``.
    """

    store: str = 'rbd'


def _own(
    name: str, options: str, compression: str | None = None, store: str = 'rbd'
) -> RbdMethod:
    return RbdMethod(
        name,
        methods.Program.OWN,
        'pull',
        compression,
        options=options,
        store=store,
    )


def _nova(name: str, user: str) -> RbdMethod:
    return RbdMethod(name, methods.Program.NOVA, options=NOVA_ON_RBD % user)


METHODS = {
    method.name: method
    for method in (
        _nova('nova-direct', NOVA),
        # What follows where it may not write to the pool of the images.
        _nova('nova-cold', READER),
        _own('rbd-task', OWN_DIRECT % 'task'),
        _own('rbd-client', OWN_DIRECT % 'client'),
        _own('rbd-later', OWN_DIRECT % 'later'),
        _own('rbd-never', OWN_DIRECT % 'never'),
        _own('pull-zstd', OWN_QCOW2, 'zstd'),
        _own('pull-zstd-file', OWN_QCOW2, 'zstd', store='file'),
        _own('cold', OWN_COLD),
        _own('cold-file', OWN_COLD, store='file'),
    )
}

#: What the others are compared with.
REFERENCE = 'nova-direct'
