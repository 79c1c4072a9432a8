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


"""Guests on RBD, and a Glance with an rbd store in the same Ceph.

One lab serves a process: Ceph with logins, and Glance.  It starts
with the first test that asks for it and ends when the process does.
"""

import base64
from concurrent import futures
import dataclasses
import functools
import pathlib
import shutil
import uuid

from tests.lab import ceph as ceph_lib
from tests.lab import daemon
from tests.lab import fault_proxy
from tests.lab import glance as glance_lib
from tests.lab import libvirtd as libvirtd_lib
from tests.lab import root_disk
from tests.lab import volumes

#: Pools of the guests' disks, and of Glance.
DISKS = 'vms'
IMAGES = 'images'

#: A user of Ceph as its documentation makes one for Nova.
NOVA = {
    'mon': 'profile rbd',
    'osd': f'profile rbd pool={DISKS}, profile rbd pool={IMAGES}',
    'mgr': f'profile rbd pool={DISKS}, profile rbd pool={IMAGES}',
}

#: Users of Ceph, and what they may do.
USERS = {
    'nova': NOVA,
    # Clones of Glance's images need no more.
    'reader': {
        **NOVA,
        'osd': f'profile rbd pool={DISKS}, profile rbd-read-only '
        f'pool={IMAGES}',
    },
    'no-manager': {**NOVA, 'mgr': 'profile rbd pool=none'},
    # As Ceph's documentation has it: it can't read the disks of guests.
    'glance': {'mon': 'profile rbd', 'osd': f'profile rbd pool={IMAGES}'},
}

#: Users of Glance, each in a project of its name, and their roles.
LOGINS = {
    'service': 'service,member,reader',
    'member': 'member,reader',
    # May change locations as before API 2.17.
    'locator': 'member,reader,locator',
}

SECRET_XML = """\
<secret ephemeral='no' private='no'>
  <uuid>{}</uuid>
  <usage type='ceph'><name>client.{}</name></usage>
</secret>"""

GLANCE = """\
[DEFAULT]
enabled_backends = rbd:rbd
show_multiple_locations = True
[glance_store]
default_backend = rbd
[rbd]
rbd_store_ceph_conf = {ceph}
rbd_store_user = glance
rbd_store_pool = {pool}
"""

POLICY = """\
"set_image_location": "role:locator"
"""


@dataclasses.dataclass(frozen=True)
class LoginDisk(volumes.RbdDisk):
    """An RBD image as a disk of a guest, with a user of Ceph.

    :ivar secret: libvirt's, with the key of the user.
    """

    user: str = ''
    secret: str = ''

    @property
    def source_xml(self) -> str:
        """The RBD image, and the user."""
        return (
            f"<auth username='{self.user}'>"
            f"<secret type='ceph' uuid='{self.secret}'/></auth>"
            f'{super().source_xml}'
        )


class RbdGlance(glance_lib.Glance):
    """A Glance with an rbd store, and users with roles."""

    #: The headers of a request say who sends it, as Keystone's middleware has
    #: them say.
    IDENTITY = 'context'

    POLICY = POLICY

    def __init__(self, directory: pathlib.Path, ceph: ceph_lib.Ceph) -> None:
        super().__init__(directory)
        self._ceph = ceph

    def _configure(self) -> None:
        super()._configure()
        with open(self.directory / 'glance-api.conf', 'a') as file:
            file.write(GLANCE.format(ceph=self._ceph.conf, pool=IMAGES))

    def _may_answer(self, status: int) -> bool:
        return status == 401  # nobody has logged in


class RbdImageLab:
    """The servers, and what tests do with them.

    :param directory: a short path; made anew.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.ceph = ceph_lib.Ceph(directory / 'ceph', users=USERS)
        self.glance = RbdGlance(directory / 'glance', self.ceph)
        self._secrets: dict[str, str] = {}

    def start(self) -> None:
        """Return once all answer.

        :raises DaemonFailed, CommandFailed, NotInstalled: with the reason.
        """
        self.directory.mkdir(parents=True)
        with futures.ThreadPoolExecutor() as pool:
            steps = [
                pool.submit(self.ceph.start, [DISKS, IMAGES]),
                pool.submit(self.glance.start),
            ]
            for step in steps:
                step.result()

    def stop(self) -> None:
        """End all, and delete what they had."""
        self.glance.kill()
        self.ceph.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def proxy(self, user: str = 'service') -> fault_proxy.FaultProxy:
        """Return a proxy to Glance that says who sends the requests."""
        return fault_proxy.FaultProxy(
            self.glance.url,
            {
                'X-Identity-Status': 'Confirmed',
                'X-User-Id': user,
                'X-Project-Id': user,
                'X-Roles': LOGINS[user],
            },
        )

    def disk(
        self, libvirtd: libvirtd_lib.Libvirtd, image: str, user: str = 'nova'
    ) -> LoginDisk:
        """Return an RBD image as a disk for a guest."""
        return LoginDisk(
            kind=root_disk.Kind.RAW,
            path=pathlib.Path(f'{DISKS}/{image}'),
            format='raw',
            source_type='network',
            port=self.ceph.port,
            user=user,
            secret=self._secret(libvirtd, user),
        )

    def listed(self, pool: str) -> list[str]:
        """Return the RBD images of a pool, its trash, and its snapshots."""
        return [
            *self.ceph.rbd('ls', pool).split(),
            *self.ceph.rbd('trash', 'ls', pool).split(),
        ]

    def snapshots(self, path: pathlib.Path) -> str:
        """Return all snapshots of an RBD image, those in the trash, too."""
        return self.ceph.rbd('snap', 'ls', '--all', path).strip()

    def _secret(self, libvirtd: libvirtd_lib.Libvirtd, user: str) -> str:
        """Give libvirt the key of a user; return the secret's uuid."""
        if user not in self._secrets:
            self._secrets[user] = define_secret(libvirtd, self.ceph, user)
        return self._secrets[user]


def define_secret(
    libvirtd: libvirtd_lib.Libvirtd, ceph: ceph_lib.Ceph, user: str
) -> str:
    """Give libvirt the key of a user; return the secret's uuid."""
    secret_id = str(uuid.uuid4())
    with libvirtd.connection() as connection:
        secret = connection.secretDefineXML(SECRET_XML.format(secret_id, user))
        secret.setValue(base64.b64decode(ceph.key(user)))
    return secret_id


@functools.cache
def shared_lab() -> RbdImageLab:
    """Return the lab of this process; start it if need be."""
    return daemon.started_for_process('r', RbdImageLab)
