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

"""Factories that make the objects of the core from nova.conf.

Open this file to see which option of Nova the driver uses, and where its
journal and locks are.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import pathlib

from nova.compute import utils as compute_utils
import nova.conf
from nova.virt.libvirt import driver as nova_driver

from nova_snap import exception
from nova_snap import factory
from nova_snap import journal
from nova_snap import locks
from nova_snap import progress as progress_lib
from nova_snap import this_host
from nova_snap.conf import nova as conf
from nova_snap.virt import decision
from nova_snap.virt.libvirt import plan
from nova_snap.virt.libvirt import policy

CONF = nova.conf.CONF


def register() -> None:
    """Register [nova_snap] beside Nova's own options."""
    conf.register_opts(CONF)


def is_left_to_nova() -> bool:
    """Return True if snapshots are left to Nova's own driver.

    It takes those of containers and the like.
    """
    return CONF.libvirt.virt_type not in policy.BLOCK_JOB_VIRT_TYPES


def require_own_snapshots(instance_uuid: str) -> None:
    """Raise an error if this driver takes no snapshots of such servers.

    :raises UnsupportedGuest: the server is a container or the like.
    """
    if is_left_to_nova():
        raise exception.UnsupportedGuest(
            server=instance_uuid,
            reason='images of all disks are made with [libvirt] virt_type = '
            f'kvm or qemu only, and it is {CONF.libvirt.virt_type}.',
        )


def state_path() -> pathlib.Path:
    """Return the directory of the journal and the locks."""
    own = CONF.nova_snap.state_path
    return pathlib.Path(own or pathlib.Path(CONF.state_path) / 'nova_snap')


def is_in_environment(path: pathlib.Path) -> bool:
    """Return True if a folder lies among Nova's Python packages.

    Nova's own default for [DEFAULT] state_path is the folder above its
    package (nova/conf/paths.py of Nova 34).
    """
    packages = pathlib.Path(nova.conf.__file__).resolve().parents[2]
    return path.resolve().is_relative_to(packages)


def locks_path() -> pathlib.Path:
    """Return the directory of the locks."""
    return state_path() / 'locks'


def connection_uri() -> str:
    """Return the URI of the libvirt that Nova's driver connects to."""
    uri: str = nova_driver.LibvirtDriver._uri()
    return uri


def driver_options() -> plan.Options:
    """Return the options of this project's driver, from nova.conf."""
    return factory.driver_options(
        CONF,
        CONF.nova_snap,
        CONF.nova_snap.quiesce_timeout,
        # As in nova/virt/libvirt/imagecache.py.
        pathlib.Path(CONF.instances_path, CONF.image_cache.subdirectory_name),
    )


def in_ceph(options: plan.Options, pool: str | None) -> plan.Options:
    """Return the options for a server whose root disk is in Ceph.

    Such a disk can't be mirrored.  So that no guest is suspended where no
    image can be made inside Ceph, the disk is pulled, whatever the option
    ``live_method`` says.

    :param pool: that of Glance's images; None if it is not known.
    """
    methods = (*options.live_methods, decision.Method.PULL)
    return dataclasses.replace(
        options.with_image_pool(pool),
        live_methods=tuple(dict.fromkeys(methods)),
    )


def make_journal() -> journal.Journal:
    """Make the journal object; its folder is made by the first snapshot."""
    return journal.Journal(
        state_path() / 'journal',
        # Containers of nova-compute may all have the machine id of their
        # image; Nova's name of the host is unique.
        this_host.origin(connection_uri(), f'nova:{CONF.host}'),
    )


def make_locks() -> locks.Locks:
    """Make the locks, which allow one snapshot of a server at a time.

    nova-compute itself limits the number of snapshots at a time, by its
    option [DEFAULT] max_concurrent_snapshots.
    """
    return locks.Locks(locks_path(), 0, 0)


@contextlib.contextmanager
def disk_operation_slot(_progress: progress_lib.Progress) -> Iterator[None]:
    """Hold Nova's semaphore for disk operations.

    Nova makes the semaphore when it starts ([DEFAULT]
    max_concurrent_disk_ops), so it is looked up each time.
    """
    with compute_utils.disk_ops_semaphore:
        yield
