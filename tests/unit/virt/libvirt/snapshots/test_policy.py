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

"""Why domain snapshots are refused: all of it, from facts alone."""

import dataclasses
import pathlib
from typing import Any

from nova_snap.objects import domain_snapshot as objects
from nova_snap.objects import power_state
from nova_snap.virt import domain_snapshot
from nova_snap.virt.libvirt.snapshots import policy
from tests.unit import base

RUNNING = power_state.PowerState.RUNNING
SHUTDOWN = power_state.PowerState.SHUTDOWN

DISK = policy.DiskFacts('vda', 'file', 'qcow2')
FACTS = policy.Facts(RUNNING, (9, 0, 0), (DISK,))

PLAIN = domain_snapshot.Request()
SYSTEM = domain_snapshot.Request(objects.Kind.SYSTEM)
INTERNAL = dataclasses.replace(SYSTEM, is_internal=True)
MEMORY = domain_snapshot.Request(objects.Kind.MEMORY)
EVERY = (PLAIN, SYSTEM, INTERNAL, MEMORY)


class TestRefusals(base.TestCase):
    def refused(
        self,
        words: str,
        *requests: domain_snapshot.Request,
        disk: dict[str, Any] | None = None,
        **facts: Any,
    ) -> None:
        """Check that just these requests, of EVERY, are refused."""
        if disk is not None:
            facts['disks'] = (dataclasses.replace(DISK, **disk),)
        found = dataclasses.replace(FACTS, **facts)
        for request in EVERY:
            reasons = policy.refusals(request, found)
            told = [reason for reason in reasons if words in reason]
            self.assertEqual(request in requests, bool(told), (words, request))
            if request not in requests:
                self.assertEqual((), reasons)

    def test_nothing_is_against_a_plain_guest(self) -> None:
        for request in EVERY:
            self.assertEqual((), policy.refusals(request, FACTS))

    def test_of_the_guest(self) -> None:
        self.refused('Nova manages', *EVERY, is_of_nova=True)
        self.refused('transient', *EVERY, is_persistent=False)
        self.refused('crashed', *EVERY, power_state=_CRASHED)
        self.refused('another program', *EVERY, has_job=True)
        self.refused('managedsave-remove', *EVERY, has_saved_memory=True)
        self.refused('no disk vdz', *EVERY, unknown_devices=('vdz',))
        self.refused('exists', *EVERY, existing=('/d/root.a exists',))

    def test_force(self) -> None:
        found = dataclasses.replace(FACTS, is_of_nova=True)
        forced = dataclasses.replace(PLAIN, forces=True)
        self.assertEqual((), policy.refusals(forced, found))

    def test_memory(self) -> None:
        self.refused(
            '0000:01:00.0',
            *(SYSTEM, INTERNAL, MEMORY),
            host_devices=('0000:01:00.0',),
        )
        self.refused('does not run', SYSTEM, MEMORY, power_state=SHUTDOWN)

    def test_checkpoints(self) -> None:
        self.refused('checkpoints', has_checkpoints=True)
        found = dataclasses.replace(
            FACTS, has_checkpoints=True, power_state=SHUTDOWN
        )
        (reason,) = policy.refusals(PLAIN, found)
        self.assertIn('checkpoints', reason)

    def test_firmware(self) -> None:
        self.refused('UEFI', INTERNAL, has_uefi=True)
        new = {'has_uefi': True, 'libvirt_version': (10, 9, 0)}
        self.refused('format raw', INTERNAL, **new)
        self.refused('UEFI', **new, nvram_format='qcow2')

    def test_of_disks(self) -> None:
        disks = (PLAIN, SYSTEM, INTERNAL)
        self.refused('read-only', *disks, disk={'is_readonly': True})
        self.refused('shared', *disks, disk={'is_shareable': True})
        self.refused('transient', *disks, disk={'is_transient': True})
        self.refused('LUN', *disks, disk={'is_passthrough': True})
        self.refused('block job', *disks, disk={'has_job': True})
        self.refused('another file', *disks, disk={'runs_elsewhere': True})
        self.refused('no disk that can', *disks, disks=())
        self.refused('only qcow2', INTERNAL, disk={'format': 'raw'})
        external = PLAIN, SYSTEM
        self.refused('encrypted', *external, disk={'is_encrypted': True})
        self.refused('type network', *external, disk={'type': 'network'})
        self.refused('--directory', *external, disk={'type': 'block'})

    def test_block_device_with_a_directory(self) -> None:
        found = dataclasses.replace(
            FACTS, disks=(dataclasses.replace(DISK, type='block'),)
        )
        request = dataclasses.replace(PLAIN, directory=pathlib.Path('/d'))
        self.assertEqual((), policy.refusals(request, found))

    def test_internal_of_the_same_name(self) -> None:
        self.refused(
            'of this name already', INTERNAL, disk={'has_internal': True}
        )

    def test_numbers_of_qemu(self) -> None:
        for name, is_number in (
            *(('1', True), ('007', True), ('999999', True)),
            *(('1795848286', False), ('1a', False), ('\u0661', False)),
        ):
            self.assertEqual(is_number, policy.is_number_of_qemu(name), name)

    def test_note_on_a_disk_that_is_left_out(self) -> None:
        facts = dataclasses.replace(FACTS, left_out=('vdb',))
        for request in EVERY:
            told = [n for n in policy.notes(request, facts) if 'vdb' in n]
            is_wrong = request.has_memory and request.has_disks
            self.assertEqual(is_wrong, bool(told), request)

    def test_notes(self) -> None:
        facts = dataclasses.replace(FACTS, has_uefi=True, has_tpm=True)
        told = {
            request: ' '.join(policy.notes(request, facts))
            for request in EVERY
        }
        for request, of_uefi, of_tpm in (
            (PLAIN, True, True),
            (SYSTEM, False, False),
            (INTERNAL, False, False),
            (MEMORY, False, False),
        ):
            self.assertEqual(of_uefi, 'UEFI' in told[request])
            self.assertEqual(of_tpm, 'TPM' in told[request])
        stopped = dataclasses.replace(facts, power_state=SHUTDOWN)
        (note,) = policy.notes(INTERNAL, stopped)
        self.assertIn('TPM', note)
        self.assertIn('does not fit', told[MEMORY])
        self.assertEqual(
            (), policy.notes(dataclasses.replace(MEMORY, halts=True), FACTS)
        )

    def test_every_reason_is_told(self) -> None:
        found = dataclasses.replace(
            FACTS,
            is_of_nova=True,
            disks=(dataclasses.replace(DISK, is_shareable=True),),
            unfreezable='its guest agent does not answer.',
        )
        request = dataclasses.replace(PLAIN, quiesces=True)
        reasons = policy.refusals(request, found)
        self.assertEqual(3, len(reasons), reasons)


_CRASHED = power_state.PowerState.CRASHED
