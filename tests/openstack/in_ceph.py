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
"""Lets the cloud keep disks and images in one Ceph, with logins.

Only some tests need it, so the cloud starts without.
"""

from collections.abc import Iterator
import contextlib
import pathlib
import tempfile
from typing import Self

from tests.lab import ceph as ceph_lib
from tests.lab import rbd_images
from tests.lab import root_disk
from tests.openstack import cloud as cloud_lib
from tests.openstack import conf
from tests.openstack import seed

#: The image whose clones the servers get.
IMAGE = 'tick-raw'

#: As those of the cloud's other image, and the guest has an agent.
PROPERTIES = {
    **seed.PROPERTIES,
    'os_command_line': f'{seed.PROPERTIES["os_command_line"]} agent=1',
    'hw_qemu_guest_agent': 'yes',
}


class CloudInCeph:
    """Runs while its block does.

    :ivar ceph: with the users of :mod:`tests.lab.rbd_images`.
    """

    def __init__(self, cloud: cloud_lib.Cloud) -> None:
        self.ceph = ceph_lib.Ceph(
            cloud.layout.state / 'ceph', rbd_images.USERS
        )
        self._cloud = cloud
        self._secret = ''
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.callback(self.ceph.stop)
            self.ceph.start([rbd_images.DISKS, rbd_images.IMAGES])
            stack.callback(self._restart_glance, {})
            self._restart_glance(self._glance_options())
            self._secret = rbd_images.define_secret(
                self._cloud.libvirtd, self.ceph, 'nova'
            )
            stack.callback(self._forget_secret)
            self._upload(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def let_glance_use(self, *pools: str) -> None:
        """Let the user of Ceph that Glance has use these pools."""
        osd = ', '.join(f'profile rbd pool={pool}' for pool in pools)
        self.ceph.ceph(
            *('auth', 'caps', 'client.glance'),
            *('mon', 'profile rbd', 'osd', osd),
        )

    @contextlib.contextmanager
    def changeable_locations(self) -> Iterator[None]:
        """Have a Glance that lets locations be changed as before API 2.17."""
        options = self._glance_options()
        more = {**options['DEFAULT'], 'show_multiple_locations': 'true'}
        self._restart_glance({**options, 'DEFAULT': more})
        try:
            yield
        finally:
            self._restart_glance(options)

    def nova_options(self) -> dict[str, str]:
        """Return what nova-compute has to know, by ``section.name``."""
        return {
            'libvirt.images_type': 'rbd',
            'libvirt.images_rbd_pool': rbd_images.DISKS,
            'libvirt.images_rbd_ceph_conf': str(self.ceph.conf),
            'libvirt.rbd_user': 'nova',
            'libvirt.rbd_secret_uuid': self._secret,
        }

    def _glance_options(self) -> conf.Sections:
        return {
            'DEFAULT': {
                'enabled_backends': 'file:file, rbd:rbd',
                # Where it is, so that Nova can clone it.
                'show_image_direct_url': 'true',
            },
            'glance_store': {'default_backend': 'rbd'},
            'rbd': {
                'rbd_store_ceph_conf': self.ceph.conf,
                'rbd_store_user': 'glance',
                'rbd_store_pool': rbd_images.IMAGES,
            },
        }

    def _forget_secret(self) -> None:
        """Let another Ceph have a user of that name."""
        with self._cloud.libvirtd.connection() as connection:
            connection.secretLookupByUUIDString(self._secret).undefine()

    def _restart_glance(self, options: conf.Sections) -> None:
        self._cloud.glance.options = options
        self._cloud.glance.restart()

    def _upload(self, stack: contextlib.ExitStack) -> None:
        """Make the image; it is deleted in the end."""
        images = self._cloud.connection.image
        found = images.find_image(seed.IMAGE)
        with tempfile.TemporaryDirectory(dir=self._cloud.layout.state) as work:
            disk = root_disk.make(
                pathlib.Path(work), root_disk.Kind.RAW, size=seed.SIZE
            )
            image_id = seed.upload(
                self._cloud.connection,
                IMAGE,
                disk.path,
                'raw',
                kernel_id=found.kernel_id,
                ramdisk_id=found.ramdisk_id,
                min_ram=64,
                **PROPERTIES,
            )
        stack.callback(images.delete_image, image_id)
