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

"""Gathering of the facts that a decision is made from; changes nothing."""

from nova_snap.qcow2 import codec
from nova_snap.qcow2 import errors
from nova_snap.qcow2 import libnbd
from nova_snap.virt.libvirt import backup_job
from nova_snap.virt.libvirt import block_device
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import inspection as inspection_lib
from nova_snap.virt.libvirt import plan
from nova_snap.virt.libvirt import policy
from nova_snap.virt.libvirt.extraction import rbd_direct
from nova_snap.virt.storage import disk_source as storage
from nova_snap.virt.storage import rbd as rbd_lib


def gather(
    found: inspection_lib.Inspection,
    disk: disk_xml.Disk,
    image_format: str,
    options: plan.Options,
    rbd: policy.RbdFacts | None,
    name: str = 'root disk',
    can_be_still: bool = True,
) -> policy.Facts:
    """Gather the facts about a guest and one of its disks.

    :param rbd: what :func:`rbd_facts` returns; None if that does not matter.
    :param name: what the disk is called for people.
    :param can_be_still: see :func:`.quiesce.can_be_still`.
    """
    host, state = found.guest.host, found.power_state
    device = block_device.BlockDevice(found.guest, disk.device)
    return policy.Facts(
        power_state=state,
        virt_type=domain_xml.virt_type(found.xml),
        qemu_version=host.hypervisor_version(),
        libvirt_version=host.libvirt_version(),
        source_type=disk.source.source_type,
        is_encrypted=disk.source.is_encrypted,
        ephemeral_encryption=options.ephemeral_encryption,
        live_disabled=options.live_disabled,
        has_iothread=disk.has_iothread,
        supports_block_jobs=not state.is_active
        or (not disk.is_transient and device.supports_block_jobs()),
        has_metadata=found.has_metadata,
        has_saved_memory=found.has_saved_memory,
        has_volatile_tpm=domain_xml.has_volatile_tpm(found.xml),
        backup_running=found.has_backup_job,
        image_format=image_format,
        has_libnbd=_has_libnbd(),
        has_compressor=not options.compresses(image_format, policy.PULL)
        or codec.is_installed(options.streaming.compression),
        scratch_fits=backup_job.is_short_enough(
            options.directory(policy.PULL)
        ),
        disk=name,
        rbd=rbd,
        can_be_still=can_be_still,
    )


def rbd_facts(
    found: inspection_lib.Inspection, disk: disk_xml.Disk, pool: str | None
) -> policy.RbdFacts | None:
    """Gather the facts about a disk in Ceph, which is asked; else None.

    :param pool: Glance's, None if that is not known.
    """
    location = disk.source.location
    if not isinstance(location, storage.RbdLocation):
        return None
    is_plain = (
        disk.source.format == 'raw'
        and not (disk.is_transient or disk.is_readonly)
        and '/' not in location.image
    )
    has_librbd, problem = False, None
    if pool is not None and is_plain:
        has_librbd = rbd_lib.is_installed()
        if has_librbd:
            problem = rbd_direct.problem(found.guest, location, pool)
    return policy.RbdFacts(pool, is_plain, has_librbd, problem)


def _has_libnbd() -> bool:
    try:
        libnbd.load()
    except errors.LibraryMissing:
        return False
    return True
