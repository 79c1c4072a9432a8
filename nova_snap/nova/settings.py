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

"""From nova.conf to the objects of the core."""

from collections.abc import Iterator
import contextlib
import pathlib

from nova.compute import utils as compute_utils
import nova.conf
from nova.virt.libvirt import driver as nova_driver

from nova_snap import factory
from nova_snap import journal
from nova_snap import locks
from nova_snap import progress as progress_lib
from nova_snap.conf import nova as conf
from nova_snap.virt.libvirt import plan
from nova_snap.virt.libvirt import policy

CONF = nova.conf.CONF


def register() -> None:
    """Register [nova_snap] beside Nova's own options."""
    conf.register_opts(CONF)


def is_left_to_nova(is_rbd: bool) -> bool:
    """Whether the snapshot of a server is left to Nova's own driver.

    Containers and the like are Nova's, and so is RBD where snapshots may not
    be live: Nova suspends the guest around the direct snapshot.

    :param is_rbd: the root disk lies in Ceph.
    """
    if CONF.libvirt.virt_type not in policy.BLOCK_JOB_VIRT_TYPES:
        return True
    return is_rbd and CONF.workarounds.disable_libvirt_livesnapshot


def state_path() -> pathlib.Path:
    """Where journal and locks are."""
    own = CONF.nova_snap.state_path
    return pathlib.Path(own or pathlib.Path(CONF.state_path) / 'nova_snap')


def is_in_environment(path: pathlib.Path) -> bool:
    """Whether a folder lies where Python's packages do.

    Nova's own default for [DEFAULT] state_path is the folder above its
    package (nova/conf/paths.py of Nova 34).
    """
    packages = pathlib.Path(nova.conf.__file__).resolve().parents[2]
    return path.resolve().is_relative_to(packages)


def locks_path() -> pathlib.Path:
    """Where the locks are."""
    return state_path() / 'locks'


def connection_uri() -> str:
    """The libvirt that Nova's driver connects to."""
    uri: str = nova_driver.LibvirtDriver._uri()
    return uri


def driver_options() -> plan.Options:
    """How guests of this host are snapshot."""
    return factory.driver_options(
        CONF, CONF.nova_snap, CONF.nova_snap.quiesce_timeout
    )


def make_journal() -> journal.Journal:
    """What snapshots owe; its folder is made when one begins."""
    return journal.Journal(state_path() / 'journal')


def make_locks() -> locks.Locks:
    """One snapshot of a server at a time.

    How many there may be in all is seen to by nova-compute, which has the
    option for it ([DEFAULT] max_concurrent_snapshots).
    """
    return locks.Locks(locks_path(), 0, 0)


@contextlib.contextmanager
def disk_operation_slot(_progress: progress_lib.Progress) -> Iterator[None]:
    """A place among nova-compute's own disk operations.

    Nova makes the semaphore when it starts ([DEFAULT]
    max_concurrent_disk_ops), so it is looked up each time.
    """
    with compute_utils.disk_ops_semaphore:
        yield
