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

"""Why a domain snapshot is refused: pure functions from facts to sentences.

The facts are gathered in ``creation_plan.py``.  Open this file when a libvirt
or QEMU can do more, or less, than is said here.
"""

from collections.abc import Iterator
import dataclasses

from nova_snap.objects import power_state
from nova_snap.virt import domain_snapshot

Version = tuple[int, int, int]

#: libvirt that takes internal snapshots of a guest with UEFI firmware, if its
#: variables are in a qcow2 file.  https://libvirt.org/news.html
MIN_LIBVIRT_INTERNAL_UEFI = (10, 9, 0)

#: Bytes of a name; what libvirt and the names of files allow.
MAX_NAME = 100

#: The least number that may be the name of an internal one.  QEMU (7.2 and
#: 10.0 do) takes a number first for that which it gave to an internal snapshot
#: itself, counting from 1, and would go back to another one.
MIN_NUMBER = 10**6

STATES = (
    power_state.PowerState.RUNNING,
    power_state.PowerState.PAUSED,
    power_state.PowerState.SHUTDOWN,
)

OF_NOVA = (
    'Nova manages the server, and its next hard reboot would start it from '
    'the old files (--force goes on all the same)'
)
HAS_JOB = 'another program saves, dumps, migrates it or takes a backup'
HAS_SAVED_MEMORY = (
    'libvirt keeps memory of an earlier run, with which the guest would start '
    'from the old files ("virsh managedsave-remove" removes it)'
)
DISK_HAS_JOB = 'has a block job of another program (see "virsh blockjob")'
DISK_RUNS_ELSEWHERE = (
    'runs with another file than its definition has ("virsh dumpxml '
    '--inactive")'
)


@dataclasses.dataclass(frozen=True)
class DiskFacts:
    """The facts about a hard disk that the domain snapshot is to have.

    :ivar type: where the data is: file, block, network, etc.
    :ivar has_internal: its file has an internal snapshot of the name that is
        wanted, whether libvirt knows of it or not.
    :ivar runs_elsewhere: the guest runs with another file than it would start
        with the next time.
    """

    device: str
    type: str
    format: str
    is_readonly: bool = False
    is_shareable: bool = False
    is_transient: bool = False
    is_encrypted: bool = False
    is_passthrough: bool = False
    has_internal: bool = False
    has_job: bool = False
    runs_elsewhere: bool = False


@dataclasses.dataclass(frozen=True)
class Facts:
    """The facts about a guest.

    :ivar unknown_devices: names in the request that are no hard disk of it.
    :ivar left_out: disks that the guest may write to, and that the domain
        snapshot does not have.
    :ivar host_devices: addresses of devices of the host that it has.
    :ivar nvram_format: of the file with the variables of its UEFI firmware.
    :ivar keeps_nvram: the variables are read from their file.
    :ivar keeps_tpm: and so is the state of its emulated TPM.
    :ivar has_saved_memory: libvirt keeps the memory of an earlier run.
    :ivar has_job: a save, a dump, a migration or a backup is under way.
    :ivar unfreezable: why its file systems can't be frozen; '' if they can.
    :ivar existing: files and names that are there, and would be new.
    """

    power_state: power_state.PowerState
    libvirt_version: Version
    disks: tuple[DiskFacts, ...]
    is_of_nova: bool = False
    is_persistent: bool = True
    unknown_devices: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    host_devices: tuple[str, ...] = ()
    has_uefi: bool = False
    nvram_format: str = 'raw'
    has_tpm: bool = False
    keeps_nvram: bool = False
    keeps_tpm: bool = False
    has_checkpoints: bool = False
    has_saved_memory: bool = False
    has_job: bool = False
    unfreezable: str = ''
    existing: tuple[str, ...] = ()


def refusals(
    request: domain_snapshot.Request, facts: Facts
) -> tuple[str, ...]:
    """Return every reason against a domain snapshot, as phrases."""
    return tuple(_refusals(request, facts))


def notes(request: domain_snapshot.Request, facts: Facts) -> tuple[str, ...]:
    """Return what of the guest is not kept, as sentences."""
    found = []
    # QEMU saves both with the memory, and libvirt what is in a qcow2 file.
    has_memory = request.has_memory and facts.power_state.is_active
    keeps_nvram = request.is_internal or facts.keeps_nvram
    if facts.has_uefi and not (has_memory or keeps_nvram):
        found.append('The variables of its UEFI firmware are not kept.')
    if facts.has_tpm and not (has_memory or facts.keeps_tpm):
        found.append('The state of its emulated TPM is not kept.')
    if request.has_memory and request.has_disks and facts.left_out:
        found.append(
            f'Disk {", ".join(facts.left_out)} is not kept. What the guest '
            'writes to it from now on does not fit the memory that is kept.'
        )
    if not request.has_disks and not request.halts:
        found.append(
            'What the guest writes to its disks from now on does not fit the '
            'memory that is kept.'
        )
    return tuple(found)


def _refusals(request: domain_snapshot.Request, facts: Facts) -> Iterator[str]:
    if facts.is_of_nova and not request.forces:
        yield OF_NOVA
    yield from _of_guest(request, facts)
    for device in facts.unknown_devices:
        yield f'it has no disk {device}'
    if request.has_disks:
        yield from _of_disks(request, facts)
    yield from facts.existing


def is_number_of_qemu(name: str) -> bool:
    """Return True if QEMU may take a name for the number of another one."""
    return name.isascii() and name.isdecimal() and int(name) < MIN_NUMBER


def _of_guest(request: domain_snapshot.Request, facts: Facts) -> Iterator[str]:
    if facts.power_state not in STATES:
        yield f'the guest is {facts.power_state.name.lower()}'
    if not facts.is_persistent:
        yield (
            'libvirt forgets a transient guest, and its domain snapshots, '
            'when it ends (define it first: "virsh define")'
        )
    if facts.has_job:
        yield HAS_JOB
    if facts.has_saved_memory:
        yield HAS_SAVED_MEMORY
    if facts.unfreezable and request.quiesces:
        yield f'its file systems cannot be frozen: {facts.unfreezable}'
    is_stopped = not facts.power_state.is_active
    if is_stopped and facts.has_checkpoints:
        yield (
            'libvirt takes none of a stopped guest that has checkpoints '
            '(start it first)'
        )
    if is_stopped and request.has_memory and not request.is_internal:
        yield 'it does not run and has no memory to keep (--disk keeps all)'
    if request.has_memory and not is_stopped:
        for address in facts.host_devices:
            yield (
                f'it has the device {address} of this host, and memory is not '
                'saved with one'
            )


def _of_disks(request: domain_snapshot.Request, facts: Facts) -> Iterator[str]:
    if not facts.disks and not facts.unknown_devices:
        yield 'it has no disk that can be written'
    if request.is_internal and facts.has_uefi:
        yield from _of_uefi(facts)
    for disk in facts.disks:
        reasons = _of_disk(request, disk)
        yield from (f'disk {disk.device} {reason}' for reason in reasons)


def _of_uefi(facts: Facts) -> Iterator[str]:
    if facts.libvirt_version < MIN_LIBVIRT_INTERNAL_UEFI:
        least = '.'.join(map(str, MIN_LIBVIRT_INTERNAL_UEFI))
        yield (
            'it has UEFI firmware, and libvirt before '
            f'{least} takes no internal snapshot of such a guest'
        )
    elif facts.nvram_format != 'qcow2':
        yield (
            'the variables of its UEFI firmware are in a file of format '
            f'{facts.nvram_format}, and only qcow2 has internal snapshots'
        )


def _of_disk(
    request: domain_snapshot.Request, disk: DiskFacts
) -> Iterator[str]:
    if disk.is_readonly:
        yield 'is read-only, and nothing would be written to a new file'
    if disk.is_shareable:
        yield 'is shared with other guests, which would not see the new file'
    if disk.is_transient:
        yield 'is transient'
    if disk.is_passthrough:
        yield 'is a LUN that is passed through'
    if disk.has_job:
        yield DISK_HAS_JOB
    if disk.runs_elsewhere:
        yield DISK_RUNS_ELSEWHERE
    if request.is_internal:
        if disk.format != 'qcow2':
            yield f'is {disk.format}, and only qcow2 has internal snapshots'
        if disk.has_internal:
            yield 'has an internal snapshot of this name already'
        return
    if disk.is_encrypted:
        yield 'is encrypted, and a new file on top would not be'
    if disk.type not in ('file', 'block'):
        yield f'is of type {disk.type}; file and block are supported'
    elif disk.type == 'block' and request.directory is None:
        yield 'is a block device: --directory has to say where new files go'
