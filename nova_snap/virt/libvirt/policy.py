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

Pure functions, no I/O; the facts are gathered in ``driver.py``.
"""

from collections.abc import Iterator
import dataclasses

from nova_snap.compute import power_state
from nova_snap.virt import decision
from nova_snap.virt.storage import source as storage

Version = tuple[int, int, int]

#: blockRebase with VIR_DOMAIN_BLOCK_REBASE_COPY: drive-mirror came with QEMU
#: 1.3.0; Nova has asked for libvirt 1.0.0 since it has had live snapshots.
MIN_QEMU_MIRROR: Version = (1, 3, 0)
MIN_LIBVIRT_MIRROR: Version = (1, 0, 0)

#: Hypervisors of libvirt that have block jobs.
BLOCK_JOB_VIRT_TYPES = ('kvm', 'qemu')

#: A container has no memory that could be saved and restored.
NEVER_SUSPENDED_VIRT_TYPES = ('lxc',)


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a decision is made from."""

    power_state: power_state.PowerState
    virt_type: str
    qemu_version: Version
    libvirt_version: Version
    source_type: storage.SourceType
    is_encrypted: bool
    ephemeral_encryption: bool
    live_disabled: bool
    supports_block_jobs: bool


def decide(facts: Facts) -> decision.Decision:
    """Live if every fact allows it, else cold."""
    reasons = tuple(_reasons(facts))
    is_live = all(reason.allows_live for reason in reasons)
    return decision.Decision(
        path=decision.Path.LIVE if is_live else decision.Path.COLD,
        method=decision.Method.MIRROR if is_live else None,
        suspends=not is_live
        and facts.power_state.is_active
        and facts.virt_type not in NEVER_SUSPENDED_VIRT_TYPES,
        reasons=reasons,
    )


def _reasons(facts: Facts) -> Iterator[decision.Reason]:
    yield _power_state(facts.power_state)
    yield _virt_type(facts.virt_type)
    yield _version('QEMU version', facts.qemu_version, MIN_QEMU_MIRROR)
    yield _version(
        'libvirt version', facts.libvirt_version, MIN_LIBVIRT_MIRROR
    )
    yield _source_type(facts.source_type)
    yield _flag(
        'root disk encrypted',
        facts.is_encrypted,
        'the root disk is encrypted, and a copy made live would not be',
        'the root disk is not encrypted by QEMU',
    )
    yield _flag(
        '[ephemeral_storage_encryption] enabled',
        facts.ephemeral_encryption,
        'disks of this host are encrypted, and a copy made live would not be',
        'disks of this host are not encrypted',
    )
    yield _flag(
        '[workarounds] disable_libvirt_livesnapshot',
        facts.live_disabled,
        'the configuration forbids live snapshots',
        'the configuration allows live snapshots',
    )
    yield _block_jobs(facts.supports_block_jobs)


def _power_state(state: power_state.PowerState) -> decision.Reason:
    if state.is_active:
        meaning = f'the guest is {state.name.lower()}, so QEMU has its disk'
    else:
        meaning = f'the guest does not run (it is {state.name.lower()})'
    return decision.Reason(
        'power state', state.name.lower(), state.is_active, meaning
    )


def _virt_type(virt_type: str) -> decision.Reason:
    allows = virt_type in BLOCK_JOB_VIRT_TYPES
    meaning = (
        f'{virt_type} guests have block jobs'
        if allows
        else f'{virt_type} guests have no block jobs'
    )
    return decision.Reason('virt type', virt_type, allows, meaning)


def _version(name: str, version: Version, minimum: Version) -> decision.Reason:
    allows = version >= minimum
    word = 'at least' if allows else 'older than'
    return decision.Reason(
        name,
        _dotted(version),
        allows,
        f'{name} is {word} {_dotted(minimum)}',
    )


def _source_type(source_type: storage.SourceType) -> decision.Reason:
    allows = source_type not in (
        storage.SourceType.LVM,
        storage.SourceType.RBD,
    )
    meaning = (
        'a root disk in a file can be copied live'
        if allows
        else f'a root disk on {source_type} is not copied live'
    )
    return decision.Reason('source type', str(source_type), allows, meaning)


def _flag(
    fact: str, value: bool, against: str, in_favour: str
) -> decision.Reason:
    text = 'true' if value else 'false'
    return decision.Reason(
        fact, text, not value, against if value else in_favour
    )


def _block_jobs(supported: bool) -> decision.Reason:
    meaning = (
        'libvirt has block jobs for the root disk'
        if supported
        else 'libvirt has no block jobs for the root disk'
    )
    text = 'true' if supported else 'false'
    return decision.Reason('block jobs', text, supported, meaning)


def _dotted(version: Version) -> str:
    return '.'.join(map(str, version))
