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

"""The holes of a disk in Ceph that nobody writes to, as librbd knows them.

Open this file when the cold pipeline reads more of an RBD image than it has.
QEMU that was built with librbd before 17 says of a clone that all of it is
data (https://tracker.ceph.com/issues/53784), and every root disk that Nova
makes in Ceph is a clone.

A disk of a guest that runs is not asked about.  What the guest writes may be
in the cache of its QEMU, which another client of Ceph does not see.  What it
discards after the moment of an export is data in the image, and may be gone
from Ceph before anybody could ask.  Bytes wrongly taken for zeros would be
lost.
"""

from collections.abc import Callable
from collections.abc import Iterator
import heapq
import time

from oslo_log import log as logging
from oslo_utils import units

from nova_snap import exception
from nova_snap.virt.libvirt import host as host_lib
from nova_snap.virt.libvirt import rbd_steps
from nova_snap.virt.storage import disk_source as storage
from nova_snap.virt.storage import qemu_img
from nova_snap.virt.storage import rbd

LOG = logging.getLogger(__name__)

#: Bytes that one request asks about: a thousand objects, a fraction of a
#: second.
_PART = 4 * units.Gi

#: Seconds after which the rest counts as data: the guest may be suspended.
TIMEOUT = 60.0

#: Holes that are used, the longest of them: a guest decides how many there
#: are.
MOST = 10_000


def find(
    host: host_lib.Host,
    disk: storage.DiskSource,
    check: Callable[[], None],
) -> qemu_img.Holes | None:
    """Return the holes of a disk that nobody writes to, None if unknown.

    :param check: called between requests; raises to end that.
    """
    location = disk.location
    if (
        not isinstance(location, storage.RbdLocation)
        or not _is_plain(disk, location)
        or not (rbd.is_installed() and qemu_img.can_mask())
    ):
        return None
    try:
        with rbd_steps.connected(host, location) as ceph:
            holes = found(ceph, location, check)
    except exception.CephError as error:
        LOG.info(
            'All of disk %(disk)s is read, since its holes are not known: '
            '%(error)s',
            {'disk': disk.describe(), 'error': error},
        )
        return None
    if holes is not None:
        length = sum(hole.beyond - hole.start for hole in holes.extents)
        LOG.info(
            'Of disk %(disk)s, %(size)d MiB are zeros and not read.',
            {'disk': disk.describe(), 'size': length // units.Mi},
        )
    return holes


def _is_plain(disk: storage.DiskSource, location: storage.RbdLocation) -> bool:
    """Return True if what librbd takes for zeros is zeros for the guest."""
    return (
        disk.format == 'raw'
        and disk.backing is None
        and not disk.is_encrypted
        and '/' not in location.image
    )


def found(
    ceph: rbd.Ceph,
    location: storage.RbdLocation,
    check: Callable[[], None],
) -> qemu_img.Holes | None:
    """Return the holes of an image that nobody writes to, None without any.

    :raises CephError: they are not known.
    """
    size = ceph.size(location)
    if size % 512:
        return None  # QEMU takes it for longer than it is
    # Its size depends on the disk alone, whatever the guest has done.
    data = bytearray(-(-size // qemu_img.HOLE))

    def mark(start: int, length: int) -> None:
        first = start // qemu_img.HOLE
        beyond = min(-(-(start + length) // qemu_img.HOLE), len(data))
        data[first:beyond] = b'\1' * (beyond - first)

    ends_at = time.monotonic() + TIMEOUT
    for start in range(0, size, _PART):
        check()
        length = min(_PART, size - start)
        if time.monotonic() > ends_at:
            mark(start, size - start)
            break
        ceph.mark_data(location, start, length, mark)
    longest = heapq.nlargest(
        MOST, _runs(data, size), lambda hole: hole.beyond - hole.start
    )
    longest.sort(key=lambda hole: hole.start)
    return qemu_img.Holes(size, longest) if longest else None


def _runs(data: bytearray, size: int) -> Iterator[qemu_img.Extent]:
    """Yield the parts without data."""
    first = data.find(0)
    while first >= 0:
        beyond = data.find(1, first)
        beyond = len(data) if beyond < 0 else beyond
        yield qemu_img.Extent(
            first * qemu_img.HOLE, min(beyond * qemu_img.HOLE, size)
        )
        first = data.find(0, beyond)
