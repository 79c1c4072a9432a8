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

"""The pool of Glance's images in Ceph, which nova.conf need not name.

Open this file when an image is not made inside Ceph, because the pool is not
known or is not the right one.  The rules are those of Nova's image backend
(``Rbd._get_parent_pool`` in nova/virt/libvirt/imagebackend.py of Nova 34).
"""

from collections.abc import Callable
from collections.abc import Iterable
import contextlib
from typing import Any
import urllib.parse

from nova import exception as nova_exception
import nova.conf
from oslo_log import log as logging

from nova_snap import exception
from nova_snap.objects import instance as instance_lib
from nova_snap.virt.libvirt import driver as driver_lib
from nova_snap.virt.libvirt import host as host_lib
from nova_snap.virt.libvirt import rbd_steps

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)

#: URLs of the data of an image.
Locations = Iterable[str]


def find(
    host: host_lib.Host,
    driver: driver_lib.LibvirtDriver,
    instance: instance_lib.Instance,
    locations: Callable[[], Locations] = tuple,
) -> str | None:
    """Return the pool of Glance's images, or None if it is not known.

    It is the pool that ``[glance] rbd_pool`` names, or that of the image
    that the root disk is a clone of, or that of the base image.

    :param locations: returns those of the base image.
    """
    if CONF.glance.rbd_pool:
        return str(CONF.glance.rbd_pool)
    try:
        disk = driver.rbd_root_disk(instance)
        if disk is None:
            return None
        with rbd_steps.connected(host, disk) as ceph:
            pool = ceph.parent_pool(disk)
            return pool or _pool_in(locations(), ceph.fsid())
    except (exception.CephError, exception.HypervisorError) as error:
        LOG.warning(
            "Server %(server)s: Glance's pool in Ceph is not known: %(error)s",
            {'server': instance.uuid, 'error': error},
            instance_uuid=instance.uuid,
        )
        return None


def locations_of(image_api: Any, context: Any, image_id: str) -> Locations:
    """Return the locations that Glance shows of an image.

    :param image_api: Nova's.
    :param image_id: empty if the server was booted from no image.
    """
    found: Any = {}
    # The image may be deleted, and is needed for nothing else.
    with contextlib.suppress(nova_exception.NovaException):
        if image_id:
            found = image_api.get(context, image_id, include_locations=True)
    return [location['url'] for location in found.get('locations', ())]


def _pool_in(locations: Locations, fsid: str) -> str | None:
    """Return the pool of the first location in a cluster."""
    for url in locations:
        scheme, _, path = url.partition('://')
        match path.split('/'):
            case [cluster, pool, _image, _snapshot] if (
                scheme == 'rbd' and urllib.parse.unquote(cluster) == fsid
            ):
                return urllib.parse.unquote(pool)
    return None
