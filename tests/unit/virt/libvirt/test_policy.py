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

from nova_snap.objects import power_state
from nova_snap.virt import decision as decision_lib
from nova_snap.virt.libvirt import policy
from nova_snap.virt.storage import disk_source as storage
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
    has_iothread=False,
    supports_block_jobs=True,
    has_metadata=False,
    has_saved_memory=False,
    has_volatile_tpm=False,
    backup_running=False,
    image_format='qcow2',
    has_libnbd=True,
    has_compressor=True,
    scratch_fits=True,
)

MIRROR = decision_lib.Method.MIRROR
PULL = decision_lib.Method.PULL
RBD_DIRECT = decision_lib.Method.RBD_DIRECT

#: A disk in Ceph of which an image can be made inside Ceph.
IN_CEPH = policy.RbdFacts(
    pool='images', is_plain=True, has_librbd=True, problem=None
)

#: The facts that allow any method, from the table in the operator's guide.
ALLOWING: dict[str, set[Any]] = {
    'power_state': {State.RUNNING, State.PAUSED},
    'virt_type': {'kvm', 'qemu'},
    'is_encrypted': {False},
    'ephemeral_encryption': {False},
    'live_disabled': {False},
    'supports_block_jobs': {True},
}

#: The facts that one method needs besides.
ALLOWING_ONE: dict[decision_lib.Method, dict[str, set[Any]]] = {
    MIRROR: {
        'source_type': {SourceType.QCOW2, SourceType.RAW},
        'has_metadata': {False},
        'has_saved_memory': {False},
        'has_volatile_tpm': {False},
    },
    PULL: {
        'backup_running': {False},
        'image_format': {'qcow2', 'raw'},
        'has_libnbd': {True},
        'has_compressor': {True},
        'scratch_fits': {True},
    },
}
MIN_QEMU = {MIRROR: (1, 3, 0), PULL: (4, 2, 0)}
MIN_LIBVIRT = {MIRROR: (1, 0, 0), PULL: (7, 2, 0)}
MIN_QEMU_IOTHREAD_EXPORT = (10, 0, 0)

versions = strategies.tuples(*[strategies.integers(0, 30)] * 3)
any_facts = strategies.builds(
    policy.Facts,
    power_state=strategies.sampled_from(State),
    virt_type=strategies.sampled_from(['kvm', 'qemu', 'lxc', 'xen', 'test']),
    qemu_version=versions,
    libvirt_version=versions,
    source_type=strategies.sampled_from(SourceType),
    image_format=strategies.sampled_from(['qcow2', 'raw', 'vmdk', 'vdi']),
)
any_methods = strategies.sampled_from([(MIRROR,), (PULL,), (PULL, MIRROR)])


def decide(
    *methods: decision_lib.Method, **changes: Any
) -> decision_lib.Decision:
    """Decide by facts that, but for these, allow a live snapshot."""
    facts = dataclasses.replace(LIVE, **changes)
    return policy.decide(facts, methods or (MIRROR,))


def is_allowed(facts: policy.Facts, method: decision_lib.Method) -> bool:
    """Whether the tables allow a method."""
    table = {**ALLOWING, **ALLOWING_ONE[method]}
    return (
        all(getattr(facts, name) in values for name, values in table.items())
        and facts.qemu_version >= MIN_QEMU[method]
        and facts.libvirt_version >= MIN_LIBVIRT[method]
        and (
            method is not PULL
            or not facts.has_iothread
            or facts.qemu_version >= MIN_QEMU_IOTHREAD_EXPORT
        )
    )


class LiveTest(base.TestCase):
    """What does not speak against a live snapshot."""

    def check_live(self, **changes: Any) -> None:
        """Check that the snapshot is live, without objections."""
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


class IothreadTest(base.TestCase):
    """A root disk with an iothread, whose export ends old QEMUs."""

    def test_is_not_exported_by_an_old_qemu(self) -> None:
        decision = decide(PULL, has_iothread=True)
        self.assertIs(decision_lib.Path.COLD, decision.path)
        self.assertIn('may crash', decision.summary)

    def test_is_mirrored_instead(self) -> None:
        decision = decide(PULL, MIRROR, has_iothread=True)
        self.assertIs(MIRROR, decision.method)

    def test_is_exported_by_a_new_qemu(self) -> None:
        decision = decide(PULL, has_iothread=True, qemu_version=(10, 0, 13))
        self.assertIs(PULL, decision.method)


class ColdTest(base.TestCase):
    """Each fact alone makes it cold, and is the reason that is given."""

    def check_cold(self, fact: str, meaning: str, **changes: Any) -> None:
        """Check that the snapshot is cold for this reason only."""
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
                'QEMU version', 'mirror needs 1.3.0', qemu_version=version
            )

    def test_old_libvirt(self) -> None:
        self.check_cold(
            'libvirt version',
            'mirror needs 1.0.0',
            libvirt_version=(0, 10, 2),
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


class PullTest(base.TestCase):
    """What the other method needs, and what it does not."""

    def check(
        self, method: decision_lib.Method | None, **changes: Any
    ) -> None:
        """With "auto", the method is this one."""
        self.assertIs(method, decide(PULL, MIRROR, **changes).method)

    def test_preferred_where_it_is_possible(self) -> None:
        self.check(PULL)
        self.check(PULL, power_state=State.PAUSED)

    def test_takes_lvm_and_rbd_live(self) -> None:
        self.check(PULL, source_type=SourceType.LVM)
        self.check(PULL, source_type=SourceType.RBD)

    def test_otherwise_mirror(self) -> None:
        self.check(MIRROR, has_libnbd=False)
        self.check(MIRROR, has_compressor=False)
        self.check(MIRROR, scratch_fits=False)
        self.check(MIRROR, backup_running=True)
        self.check(MIRROR, image_format='vmdk')
        self.check(MIRROR, qemu_version=(4, 1, 99))
        self.check(MIRROR, libvirt_version=(7, 1, 99))

    def test_otherwise_cold(self) -> None:
        self.check(None, has_libnbd=False, source_type=SourceType.LVM)
        self.check(None, is_encrypted=True)

    def test_never_the_one_that_was_not_asked_for(self) -> None:
        decision = decide(PULL, has_libnbd=False)
        self.assertIs(decision_lib.Path.COLD, decision.path)
        self.assertIn('python3-libnbd', decision.summary)

    def test_its_facts_do_not_object_to_mirror(self) -> None:
        decision = decide(MIRROR, has_libnbd=False, image_format='vdi')
        self.assertIs(MIRROR, decision.method)
        self.assertEqual((), decision.objections)


class RbdDirectTest(base.TestCase):
    """What an image inside Ceph needs, and what does not matter for it."""

    def decide(
        self, rbd: policy.RbdFacts = IN_CEPH, **changes: Any
    ) -> decision_lib.Decision:
        """Decide about a disk in Ceph, as if "auto" was configured."""
        facts = {
            'source_type': SourceType.RBD,
            'image_format': 'raw',
            'rbd': rbd,
            **changes,
        }
        return decide(RBD_DIRECT, PULL, MIRROR, **facts)

    def test_running(self) -> None:
        decision = self.decide()
        self.assertIs(RBD_DIRECT, decision.method)
        self.assertIs(decision_lib.Path.LIVE, decision.path)
        self.assertIn('inside Ceph', decision.summary)

    def test_shut_off(self) -> None:
        decision = self.decide(
            power_state=State.SHUTDOWN, supports_block_jobs=False
        )
        self.assertIs(RBD_DIRECT, decision.method)
        self.assertIs(decision_lib.Path.COLD, decision.path)
        self.assertFalse(decision.suspends)

    def test_needs_nothing_of_qemu(self) -> None:
        for changes in (
            {'live_disabled': True},
            {'has_libnbd': False},
            {'supports_block_jobs': False},
            {'qemu_version': (1, 0, 0), 'libvirt_version': (0, 9, 0)},
        ):
            with self.subTest(str(changes)):
                self.assertIs(RBD_DIRECT, self.decide(**changes).method)

    def test_otherwise_pull(self) -> None:
        for changes in (
            {'pool': None},
            {'is_plain': False},
            {'has_librbd': False},
            {'problem': 'no permission'},
        ):
            with self.subTest(str(changes)):
                rbd = dataclasses.replace(IN_CEPH, **changes)
                decision = self.decide(rbd)
                self.assertIs(PULL, decision.method)
        self.assertIs(PULL, self.decide(image_format='qcow2').method)

    def test_never_encrypted(self) -> None:
        self.assertIsNone(self.decide(is_encrypted=True).method)

    def decide_set(
        self, *further: policy.RbdFacts | None, **changes: Any
    ) -> decision_lib.Decision:
        """Decide about a set of disks of which the first is in Ceph."""
        root, *others = (
            dataclasses.replace(
                LIVE,
                source_type=SourceType.RBD,
                image_format='raw',
                rbd=rbd,
                disk=f'disk {number}',
                **changes,
            )
            for number, rbd in enumerate((IN_CEPH, *further))
        )
        return policy.decide(root, (RBD_DIRECT, PULL, MIRROR), others)

    def test_set_of_disks(self) -> None:
        decision = self.decide_set(IN_CEPH, IN_CEPH)
        self.assertIs(RBD_DIRECT, decision.method)
        off = self.decide_set(IN_CEPH, power_state=State.SHUTDOWN)
        self.assertIs(RBD_DIRECT, off.method)

    def test_set_of_disks_that_are_not_frozen(self) -> None:
        decision = self.decide_set(IN_CEPH, can_be_still=False)
        self.assertIs(PULL, decision.method)
        self.assertIn('as of one moment', str(decision.objections))

    def test_set_with_a_disk_that_can_not_be_cloned(self) -> None:
        other = dataclasses.replace(IN_CEPH, is_plain=False)
        decision = self.decide_set(IN_CEPH, other)
        self.assertIs(PULL, decision.method)
        meanings = {r.fact: r.meaning for r in decision.reasons}
        self.assertIn('no plain', meanings['disk 2'])
        self.assertIn('same moment', meanings['disk 1'])

    def test_no_method_where_it_is_not_configured(self) -> None:
        decisions = [
            decide(PULL, MIRROR),
            self.decide(dataclasses.replace(IN_CEPH, pool=None)),
        ]
        for decision in decisions:
            self.assertNotIn(RBD_DIRECT, decision.possible)
            for reason in decision.reasons:
                self.assertNotIn(RBD_DIRECT, reason.allows)


class EveryDecisionTest(base.TestCase):
    """What holds whatever the facts are."""

    @given(any_facts, any_methods)
    def test_the_first_method_that_every_fact_allows(
        self, facts: policy.Facts, methods: tuple[decision_lib.Method, ...]
    ) -> None:
        decision = policy.decide(facts, methods)
        allowed = [m for m in methods if is_allowed(facts, m)]
        self.assertIs(allowed[0] if allowed else None, decision.method)
        self.assertEqual(
            bool(allowed), decision.path is decision_lib.Path.LIVE
        )
        if not allowed:
            self.assertNotEqual((), decision.objections)

    @given(any_facts, any_methods)
    def test_only_what_runs_and_has_to_is_suspended(
        self, facts: policy.Facts, methods: tuple[decision_lib.Method, ...]
    ) -> None:
        decision = policy.decide(facts, methods)
        if decision.suspends:
            self.assertIs(decision_lib.Path.COLD, decision.path)
            self.assertTrue(facts.power_state.is_active)
            self.assertNotEqual('lxc', facts.virt_type)

    @given(any_facts)
    def test_every_fact_is_explained(self, facts: policy.Facts) -> None:
        reasons = policy.decide(facts, (MIRROR,)).reasons
        names = [reason.fact for reason in reasons]
        # Not the name of the disk.  Those about disks in Ceph have tests of
        # their own.
        fields = {f.name for f in dataclasses.fields(facts)} - {
            *('disk', 'rbd', 'can_be_still')
        }
        self.assertEqual(len(fields), len(set(names)))
        for reason in reasons:
            self.assertNotEqual('', reason.value)
            self.assertNotEqual('', reason.meaning)
