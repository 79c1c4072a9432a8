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


"""Live or cold: the table of the decision, fact by fact."""

import dataclasses
from typing import Any

from hypothesis import given
from hypothesis import strategies

from nova_snap.compute import power_state
from nova_snap.virt import decision as decision_lib
from nova_snap.virt.libvirt import policy
from nova_snap.virt.storage import source as storage
from tests.unit import base

State = power_state.PowerState
SourceType = storage.SourceType

#: Every fact allows a live snapshot.
LIVE = policy.Facts(
    power_state=State.RUNNING,
    virt_type='kvm',
    qemu_version=(7, 2, 22),
    libvirt_version=(9, 0, 0),
    source_type=SourceType.QCOW2,
    is_encrypted=False,
    ephemeral_encryption=False,
    live_disabled=False,
    supports_block_jobs=True,
)

#: The facts that allow it, from the table in the operator's guide.
ALLOWING: dict[str, set[Any]] = {
    'power_state': {State.RUNNING, State.PAUSED},
    'virt_type': {'kvm', 'qemu'},
    'source_type': {SourceType.QCOW2, SourceType.RAW},
    'is_encrypted': {False},
    'ephemeral_encryption': {False},
    'live_disabled': {False},
    'supports_block_jobs': {True},
}

versions = strategies.tuples(*[strategies.integers(0, 30)] * 3)
any_facts = strategies.builds(
    policy.Facts,
    power_state=strategies.sampled_from(State),
    virt_type=strategies.sampled_from(['kvm', 'qemu', 'lxc', 'xen', 'test']),
    qemu_version=versions,
    libvirt_version=versions,
    source_type=strategies.sampled_from(SourceType),
)


def decide(**changes: Any) -> decision_lib.Decision:
    """The decision where all but these facts allow a live snapshot."""
    return policy.decide(dataclasses.replace(LIVE, **changes))


class LiveTest(base.TestCase):
    """What does not speak against a live snapshot."""

    def check_live(self, **changes: Any) -> None:
        """It is live with these facts, and nothing objects."""
        decision = decide(**changes)
        self.assertIs(decision_lib.Path.LIVE, decision.path)
        self.assertIs(decision_lib.Method.MIRROR, decision.method)
        self.assertFalse(decision.suspends)
        self.assertEqual((), decision.objections)

    def test_running(self) -> None:
        self.check_live()

    def test_paused(self) -> None:
        self.check_live(power_state=State.PAUSED)

    def test_qemu_without_kvm(self) -> None:
        self.check_live(virt_type='qemu')

    def test_raw(self) -> None:
        self.check_live(source_type=SourceType.RAW)

    def test_oldest_versions(self) -> None:
        self.check_live(qemu_version=(1, 3, 0))
        self.check_live(libvirt_version=(1, 0, 0))

    def test_summary_says_that_it_keeps_running(self) -> None:
        self.assertIn('keeps running', decide().summary)


class ColdTest(base.TestCase):
    """Each fact alone makes it cold, and is the reason that is given."""

    def check_cold(self, fact: str, meaning: str, **changes: Any) -> None:
        """It is cold for this one reason; the guest is suspended for it."""
        decision = decide(**changes)
        self.assertIs(decision_lib.Path.COLD, decision.path)
        self.assertIsNone(decision.method)
        self.assertTrue(decision.suspends)
        (reason,) = decision.objections
        self.assertEqual(fact, reason.fact)
        self.assertIn(meaning, reason.meaning)
        self.assertIn('is suspended', decision.summary)
        self.assertIn(reason.meaning, decision.summary)

    def test_old_qemu(self) -> None:
        for version in ((1, 2, 99), (0, 15, 1)):
            self.check_cold(
                'QEMU version', 'older than 1.3.0', qemu_version=version
            )

    def test_old_libvirt(self) -> None:
        self.check_cold(
            'libvirt version', 'older than 1.0.0', libvirt_version=(0, 10, 2)
        )

    def test_lvm_and_rbd(self) -> None:
        for source_type in (SourceType.LVM, SourceType.RBD):
            self.check_cold(
                'source type', str(source_type), source_type=source_type
            )

    def test_encrypted_root_disk(self) -> None:
        self.check_cold(
            'root disk encrypted', 'is encrypted', is_encrypted=True
        )

    def test_ephemeral_storage_encryption(self) -> None:
        self.check_cold(
            '[ephemeral_storage_encryption] enabled',
            'are encrypted',
            ephemeral_encryption=True,
        )

    def test_disabled_by_the_operator(self) -> None:
        self.check_cold(
            '[workarounds] disable_libvirt_livesnapshot',
            'forbids',
            live_disabled=True,
        )

    def test_no_block_jobs(self) -> None:
        self.check_cold(
            'block jobs', 'no block jobs', supports_block_jobs=False
        )

    def test_other_hypervisor(self) -> None:
        self.check_cold('virt type', 'xen guests', virt_type='xen')

    def test_container_is_read_while_it_runs(self) -> None:
        decision = decide(virt_type='lxc')
        self.assertIs(decision_lib.Path.COLD, decision.path)
        self.assertFalse(decision.suspends)
        self.assertIn('left as it is', decision.summary)

    def test_paused_guest_is_suspended_too(self) -> None:
        decision = decide(power_state=State.PAUSED, live_disabled=True)
        self.assertTrue(decision.suspends)

    def test_guest_that_does_not_run_is_only_read(self) -> None:
        for state in set(State) - ALLOWING['power_state']:
            decision = decide(power_state=state)
            self.assertIs(decision_lib.Path.COLD, decision.path)
            self.assertFalse(decision.suspends)
            (reason,) = decision.objections
            self.assertEqual('power state', reason.fact)
            self.assertIn(state.name.lower(), decision.summary)
            self.assertIn('left as it is', decision.summary)

    def test_summary_names_every_objection(self) -> None:
        decision = decide(live_disabled=True, source_type=SourceType.LVM)
        self.assertEqual(2, len(decision.objections))
        for reason in decision.objections:
            self.assertIn(reason.meaning, decision.summary)


class EveryDecisionTest(base.TestCase):
    """What holds whatever the facts are."""

    @given(any_facts)
    def test_live_if_and_only_if_every_fact_allows(
        self, facts: policy.Facts
    ) -> None:
        allowed = [
            getattr(facts, name) in values for name, values in ALLOWING.items()
        ]
        allowed.append(facts.qemu_version >= (1, 3, 0))
        allowed.append(facts.libvirt_version >= (1, 0, 0))
        decision = policy.decide(facts)
        self.assertEqual(all(allowed), decision.path is decision_lib.Path.LIVE)
        self.assertEqual(allowed.count(False), len(decision.objections))

    @given(any_facts)
    def test_only_what_runs_and_has_to_is_suspended(
        self, facts: policy.Facts
    ) -> None:
        decision = policy.decide(facts)
        if decision.suspends:
            self.assertIs(decision_lib.Path.COLD, decision.path)
            self.assertTrue(facts.power_state.is_active)
            self.assertNotEqual('lxc', facts.virt_type)

    @given(any_facts)
    def test_every_fact_is_explained(self, facts: policy.Facts) -> None:
        reasons = policy.decide(facts).reasons
        names = [reason.fact for reason in reasons]
        self.assertEqual(
            len(dataclasses.fields(policy.Facts)), len(set(names))
        )
        for reason in reasons:
            self.assertNotEqual('', reason.value)
            self.assertNotEqual('', reason.meaning)
