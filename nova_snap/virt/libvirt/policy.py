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

"""Live or cold, by which method, and why: from facts to a decision.

Pure functions, no I/O; the facts are gathered in ``facts.py``.
"""

from collections.abc import Iterator
from collections.abc import Sequence
from collections.abc import Set
import dataclasses

from nova_snap.objects import power_state
from nova_snap.virt import decision
from nova_snap.virt.storage import disk_source as storage

Version = tuple[int, int, int]

MIRROR = decision.Method.MIRROR
PULL = decision.Method.PULL
RBD_DIRECT = decision.Method.RBD_DIRECT
#: Those that QEMU reads the disk for.
_BOTH = frozenset({MIRROR, PULL})
_ALL = frozenset(decision.Method)

#: mirror: blockRebase with VIR_DOMAIN_BLOCK_REBASE_COPY; drive-mirror came
#: with QEMU 1.3.0, and Nova asked for libvirt 1.0.0 since its first live
#: snapshots.  pull: libvirt 7.2.0 made virDomainBackupBegin complete, which
#: needs QEMU 4.2.
MIN_QEMU = {MIRROR: (1, 3, 0), PULL: (4, 2, 0)}
MIN_LIBVIRT = {MIRROR: (1, 0, 0), PULL: (7, 2, 0)}

#: QEMU whose NBD server can export a disk with an iothread.  7.2.22 (Debian
#: 12) aborts when the client disconnects, and the guest with it: "Assertion
#: `qemu_in_main_thread() && nbd_server' failed" in blockdev-nbd.c.  10.0.13
#: (Debian 13) does not; releases between them were not tried.
MIN_QEMU_IOTHREAD_EXPORT = (10, 0, 0)

#: Hypervisors of libvirt that have block jobs.
BLOCK_JOB_VIRT_TYPES = ('kvm', 'qemu')

#: A container has no memory that could be saved and restored.
NEVER_SUSPENDED_VIRT_TYPES = ('lxc',)

#: Formats that can be written as a stream.
STREAM_FORMATS = ('qcow2', 'raw')


@dataclasses.dataclass(frozen=True)
class Facts:
    """The facts about a guest and one of its disks.

    :ivar disk: what the disk is called for people.
    :ivar can_be_still: the guest does not write while snapshots of several
        disks are taken.
    """

    power_state: power_state.PowerState
    virt_type: str
    qemu_version: Version
    libvirt_version: Version
    source_type: storage.SourceType
    is_encrypted: bool
    ephemeral_encryption: bool
    live_disabled: bool
    has_iothread: bool
    supports_block_jobs: bool
    has_metadata: bool
    has_saved_memory: bool
    has_volatile_tpm: bool
    backup_running: bool
    image_format: str
    has_libnbd: bool
    has_compressor: bool
    scratch_fits: bool
    disk: str = 'root disk'
    rbd: 'RbdFacts | None' = None
    can_be_still: bool = True


@dataclasses.dataclass(frozen=True)
class RbdFacts:
    """The facts about a root disk in Ceph.

    :ivar pool: Glance's, None if the configuration names none.
    :ivar is_plain: the RBD image holds the raw bytes that the guest sees.
    :ivar problem: why the pool can't be used, None if it can.
    """

    pool: str | None
    is_plain: bool
    has_librbd: bool
    problem: str | None


def decide(
    facts: Facts,
    methods: Sequence[decision.Method],
    further: Sequence[Facts] = (),
) -> decision.Decision:
    """Choose the first of the methods that every fact allows, else cold.

    :param facts: with those of the root disk.
    :param further: those of the disks that are read at the same moment.
    """
    there_are = known(facts)
    reasons = tuple(
        dataclasses.replace(reason, allows=reason.allows & there_are)
        for reason in (*_reasons(facts), *_further_reasons(facts, further))
    )
    allowed = there_are.intersection(*(reason.allows for reason in reasons))
    method = next((method for method in methods if method in allowed), None)
    is_active = facts.power_state.is_active
    return decision.Decision(
        path=decision.Path.LIVE
        if method and is_active
        else decision.Path.COLD,
        method=method,
        suspends=method is None
        and is_active
        and facts.virt_type not in NEVER_SUSPENDED_VIRT_TYPES,
        considered=tuple(methods),
        reasons=reasons,
    )


def known(facts: Facts) -> frozenset[decision.Method]:
    """Return the methods that there are for disks of this kind."""
    return _ALL if facts.rbd and facts.rbd.pool else _BOTH


def _reasons(facts: Facts) -> Iterator[decision.Reason]:
    yield _power_state(facts.power_state)
    yield _virt_type(facts.virt_type)
    yield _version('QEMU version', facts.qemu_version, MIN_QEMU)
    yield _version('libvirt version', facts.libvirt_version, MIN_LIBVIRT)
    yield _source_type(facts)
    yield _encrypted(facts)
    yield _needs(
        _BOTH,
        '[ephemeral_storage_encryption] enabled',
        facts.ephemeral_encryption,
        not facts.ephemeral_encryption,
        'disks here are not encrypted',
        'disks here are encrypted, and what is copied live would not be',
    )
    yield _needs(
        _BOTH,
        '[workarounds] disable_libvirt_livesnapshot',
        facts.live_disabled,
        not facts.live_disabled,
        'the configuration allows live snapshots',
        'the configuration forbids live snapshots',
    )
    yield _block_jobs(facts)
    yield from _mirror_reasons(facts)
    yield from _pull_reasons(facts)
    if facts.rbd is not None:
        yield from _rbd_reasons(facts.rbd, facts.image_format)


def _mirror_reasons(facts: Facts) -> Iterator[decision.Reason]:
    """Yield the reasons about state that a mirror's undefining would lose."""
    yield _needs(
        {MIRROR},
        'libvirt snapshots or checkpoints',
        facts.has_metadata,
        not facts.has_metadata,
        'libvirt keeps no snapshots or checkpoints of the guest',
        'a mirror would lose the snapshots and checkpoints of the guest if '
        'it powered off meanwhile',
    )
    yield _needs(
        {MIRROR},
        'memory of an earlier run',
        facts.has_saved_memory,
        not facts.has_saved_memory,
        'libvirt keeps no memory of an earlier run of the guest',
        'libvirt keeps the memory of an earlier run of the guest, and a '
        'mirror would lose it',
    )
    yield _needs(
        {MIRROR},
        'emulated TPM',
        facts.has_volatile_tpm,
        not facts.has_volatile_tpm,
        'the guest has no emulated TPM, or one whose state is kept',
        'a mirror would lose the state of the TPM if the guest powered off '
        'meanwhile',
    )


def _pull_reasons(facts: Facts) -> Iterator[decision.Reason]:
    yield _needs(
        {PULL},
        'other backup job',
        facts.backup_running,
        not facts.backup_running,
        'no other backup job runs',
        'another backup job runs, and a guest has one at a time',
    )
    yield _iothread(facts)
    yield _image_format(facts)
    yield _needs(
        {PULL},
        'libnbd',
        facts.has_libnbd,
        facts.has_libnbd,
        "libnbd's Python binding is installed",
        "libnbd's Python binding (python3-libnbd) is not installed",
    )
    yield _compressor(facts)
    yield _needs(
        {PULL},
        'short path for sockets',
        facts.scratch_fits,
        facts.scratch_fits,
        'the scratch directory has a path that is short enough for sockets',
        'the path of the scratch directory is too long for the sockets of '
        'pull in it (set [snapshot] scratch_directory)',
    )


def _further_reasons(
    root: Facts, further: Sequence[Facts]
) -> Iterator[decision.Reason]:
    """Yield a reason for each disk besides the root disk."""
    if not further:
        return
    methods = known(root) - {MIRROR}
    yield _needs(
        {MIRROR},
        'number of disks',
        1 + len(further),
        False,
        '',
        'mirrors of several disks end one after the other, not at one moment',
    )
    if RBD_DIRECT in methods:
        yield _needs(
            {RBD_DIRECT},
            'can be kept from writing',
            root.can_be_still,
            root.can_be_still,
            'the guest does not write while Ceph takes snapshots of its disks',
            'the guest can neither be frozen nor is it shut off, so snapshots '
            'of several disks in Ceph would not be as of one moment',
        )
    for facts in further:
        of_disk = [
            _source_type(facts),
            _encrypted(facts),
            _block_jobs(facts),
            _iothread(facts),
            _image_format(facts),
            _compressor(facts),
        ]
        if facts.rbd is not None:
            of_disk += _rbd_reasons(facts.rbd, facts.image_format)
        allows = _ALL.intersection(*(reason.allows for reason in of_disk))
        hindering = [r.meaning for r in of_disk if not r.allows >= methods]
        yield _reason(
            facts.disk,
            facts.source_type,
            allows,
            '; '.join(hindering) or 'it is read as of the same moment',
        )


def _encrypted(facts: Facts) -> decision.Reason:
    return _needs(
        _ALL,
        f'{facts.disk} encrypted',
        facts.is_encrypted,
        not facts.is_encrypted,
        f'the {facts.disk} is not encrypted by QEMU',
        f'the {facts.disk} is encrypted, and what is copied live would not be',
    )


def _block_jobs(facts: Facts) -> decision.Reason:
    return _needs(
        _BOTH,
        'block jobs',
        facts.supports_block_jobs,
        facts.supports_block_jobs,
        f'libvirt has block jobs for the {facts.disk}',
        f'libvirt has no block jobs for the {facts.disk}',
    )


def _image_format(facts: Facts) -> decision.Reason:
    return _needs(
        {PULL},
        'image format',
        facts.image_format,
        facts.image_format in STREAM_FORMATS,
        f'{facts.image_format} can be written as a stream',
        f'{facts.image_format} cannot be written as a stream',
    )


def _compressor(facts: Facts) -> decision.Reason:
    return _needs(
        {PULL},
        'compression library',
        facts.has_compressor,
        facts.has_compressor,
        'what compresses images is installed, or not needed',
        'what compresses images (nova-snap[stream]) is not installed',
    )


def _rbd_reasons(
    rbd: RbdFacts, image_format: str
) -> Iterator[decision.Reason]:
    yield _needs(
        {RBD_DIRECT},
        '[snapshot] rbd_pool',
        rbd.pool or 'none',
        rbd.pool is not None,
        "Glance's pool in Ceph is known",
        "Glance's pool in Ceph is not known, so no image is made inside Ceph",
    )
    if rbd.pool is None:
        return
    yield _needs(
        {RBD_DIRECT},
        'format for Ceph',
        image_format,
        image_format == 'raw',
        'a copy inside Ceph is raw',
        f'a copy inside Ceph is raw, and {image_format} is wanted',
    )
    yield _needs(
        {RBD_DIRECT},
        'plain RBD image',
        rbd.is_plain,
        rbd.is_plain,
        'the RBD image has the bytes that the guest sees',
        'the RBD image is no plain, writable one in the default namespace '
        'of its pool',
    )
    yield _needs(
        {RBD_DIRECT},
        'librbd',
        rbd.has_librbd,
        rbd.has_librbd,
        "Ceph's Python bindings are installed",
        "Ceph's Python bindings (python3-rados, python3-rbd) are not "
        'installed',
    )
    yield _needs(
        {RBD_DIRECT},
        "access to Glance's pool",
        rbd.problem is None,
        rbd.problem is None,
        f'this host may write to pool {rbd.pool}',
        str(rbd.problem),
    )


def _iothread(facts: Facts) -> decision.Reason:
    if not facts.has_iothread:
        allows, meaning = _ALL, f'the {facts.disk} has no iothread'
    elif facts.qemu_version >= MIN_QEMU_IOTHREAD_EXPORT:
        allows, meaning = _ALL, 'this QEMU can export a disk with an iothread'
    else:
        allows = _ALL - {PULL}
        meaning = (
            f'the {facts.disk} has an iothread, and QEMU before '
            f'{_dotted(MIN_QEMU_IOTHREAD_EXPORT)} may crash when the export '
            'of such a disk ends'
        )
    return _reason(
        f'{facts.disk} has an iothread',
        facts.has_iothread,
        allows,
        meaning,
    )


def _needs(
    methods: Set[decision.Method],
    fact: str,
    value: object,
    is_met: bool,
    met: str,
    unmet: str,
) -> decision.Reason:
    """Make a reason that forbids methods unless what they need is there.

    :param met: what the fact means if it allows the methods.
    :param unmet: what it means if it does not.
    """
    allows = _ALL if is_met else _ALL - methods
    return _reason(fact, value, allows, met if is_met else unmet)


def _reason(
    fact: str, value: object, allows: frozenset[decision.Method], meaning: str
) -> decision.Reason:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return decision.Reason(fact, text, allows, meaning)


def _power_state(state: power_state.PowerState) -> decision.Reason:
    name = state.name.lower()
    return _reason(
        'power state',
        name,
        _ALL if state.is_active else _ALL - _BOTH,
        f'the guest is {name}, so QEMU has its disk'
        if state.is_active
        else f'the guest does not run (it is {name})',
    )


def _virt_type(virt_type: str) -> decision.Reason:
    allows = virt_type in BLOCK_JOB_VIRT_TYPES
    return _reason(
        'virt type',
        virt_type,
        _ALL if allows else _ALL - _BOTH,
        f'{virt_type} guests have {"" if allows else "no "}block jobs',
    )


def _version(
    name: str, version: Version, minimum: dict[decision.Method, Version]
) -> decision.Reason:
    needs = ', '.join(
        f'{method} needs {_dotted(minimum[method])}' for method in minimum
    )
    return _reason(
        name,
        _dotted(version),
        frozenset(m for m in _ALL if version >= minimum.get(m, version)),
        f'{name.removesuffix(" version")} is {_dotted(version)}; {needs}',
    )


def _source_type(facts: Facts) -> decision.Reason:
    is_file = facts.source_type not in (
        storage.SourceType.LVM,
        storage.SourceType.RBD,
    )
    allows = _BOTH if is_file else _ALL - {MIRROR}
    return _reason(
        'source type',
        facts.source_type,
        allows,
        f'a {facts.disk} in a file can be copied live'
        if is_file
        else f'a {facts.disk} on {facts.source_type} cannot be mirrored',
    )


def _dotted(version: Version) -> str:
    return '.'.join(map(str, version))
