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


"""Agents that are absent, dead, slow or late."""

from collections.abc import Callable
import time
from typing import Any

import fixtures
import libvirt
import testtools

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import inspection
from nova_snap.virt.libvirt import quiesce
from tests.unit.virt.libvirt import base
from tests.unit.virt.libvirt import fake_libvirt
from tests.unit.virt.libvirt import samples

TIMEOUT = 7


def unresponsive() -> None:
    """Answer as libvirt does for an agent that does not."""
    raise fake_libvirt.error(
        libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
        'Guest agent is not responding: guest agent did not respond in time',
    )


class QuiesceTestCase(base.GuestTestCase):
    """A guest with an agent."""

    def setUp(self) -> None:
        super().setUp()
        self.domain = fake_libvirt.Domain(samples.raw_disk())
        self.guest = self.use(self.domain)
        self.progress = progress_lib.Progress()


class PlanTest(QuiesceTestCase):
    """What is found out before anything is copied."""

    def plan(self, required: bool = False) -> quiesce.Quiesce:
        """Plan the freezing of the guest."""
        return quiesce.plan(inspection.inspect(self.guest), required, TIMEOUT)

    def check_hindrance(self, reason: str) -> None:
        """Check that the guest can't be frozen, for this reason."""
        self.assertFalse(self.plan().wanted)
        self.assertIn(reason, self.log.output)
        error = self.assertRaises(
            exception.QuiesceNotPossible, self.plan, True
        )
        self.assertIn(reason, str(error))
        self.assertIn('os_require_quiesce', str(error))
        self.assertEqual(samples.UUID, error.fields['server'])

    def test_agent_that_answers(self) -> None:
        self.assertEqual(
            quiesce.Quiesce(wanted=True, required=False, timeout=TIMEOUT),
            self.plan(),
        )
        self.assertTrue(self.plan(required=True).required)

    def test_no_agent(self) -> None:
        self.domain.agent = ''
        self.check_hindrance('hw_qemu_guest_agent')

    def test_agent_that_was_not_started(self) -> None:
        self.domain.agent = samples.agent('disconnected')
        self.check_hindrance('does not answer')

    def test_dead_agent(self) -> None:
        self.domain.ping = unresponsive
        self.check_hindrance('does not answer')

    def test_paused_guest_needs_no_freezing(self) -> None:
        self.domain.state_now = base.PAUSED
        self.domain.ping = unresponsive
        self.assertFalse(self.plan(required=True).wanted)

    def test_guest_that_does_not_run_needs_no_freezing(self) -> None:
        self.domain.state_now = base.SHUTOFF
        self.domain.agent = ''
        self.assertFalse(self.plan(required=True).wanted)

    def test_nothing_is_frozen(self) -> None:
        self.plan()
        self.assertFalse(self.domain.is_frozen)


class QuiescedTest(QuiesceTestCase):
    """The moment for which the guest is frozen."""

    def frozen_within(
        self,
        wanted: bool = True,
        required: bool = False,
        block: Callable[[], None] = lambda: None,
    ) -> bool:
        """Whether the guest was frozen in the block."""
        plan = quiesce.Quiesce(wanted, required, TIMEOUT)
        with (
            self.begun(self.guest) as entry,
            quiesce.quiesced(self.guest, plan, entry, self.progress),
        ):
            was_frozen = self.domain.is_frozen
            block()
        return was_frozen

    def test_frozen_and_thawed(self) -> None:
        self.assertTrue(self.frozen_within())
        self.assertFalse(self.domain.is_frozen)
        self.assertIn('were frozen for', self.log.output)

    def test_the_frozen_time_is_measured(self) -> None:
        self.frozen_within(wanted=False)
        measured = self.progress.measured
        self.assertIsNone(measured.frozen_seconds)
        self.frozen_within(block=lambda: time.sleep(0.01))
        first = measured.frozen_seconds
        assert first is not None
        self.assertGreaterEqual(first, 0.01)

        def fail() -> None:
            raise ValueError

        # The guest was frozen, whatever became of the image.
        self.assertRaises(ValueError, self.frozen_within, block=fail)
        assert measured.frozen_seconds is not None
        self.assertGreater(measured.frozen_seconds, first)

    def test_agent_has_the_configured_time(self) -> None:
        self.frozen_within()
        asked = self.domain.agent_timeouts
        self.assertEqual(TIMEOUT, asked['guest-fsfreeze-freeze'])
        self.assertEqual(
            guest_lib.AGENT_ANSWER_TIMEOUT, asked['guest-fsfreeze-thaw']
        )

    def test_is_owed_before_it_is_frozen(self) -> None:
        seen: list[str] = []
        self.domain.freeze = lambda: seen.extend(self.steps_left())
        self.frozen_within()
        self.assertEqual(['thaw the guest'], seen)
        self.assertEqual([], self.steps_left())

    def test_frozen_by_another_program(self) -> None:
        self.domain.is_frozen = True
        self.domain.thaw = lambda: self.fail('not ours to thaw')
        steps: list[str] = []
        self.assertTrue(
            self.frozen_within(block=lambda: steps.extend(self.steps_left()))
        )
        self.assertEqual([], steps)
        self.assertIn('another program has frozen', self.log.output)

    def test_thawed_by_another_program_within_the_block(self) -> None:
        def thaw() -> None:
            self.domain.is_frozen = False

        self.domain.is_frozen = True
        self.frozen_within(block=thaw)
        self.assertIn('another program has thawed', self.log.output)
        self.domain.is_frozen = True
        self.assertRaises(
            exception.QuiesceNotPossible,
            lambda: self.frozen_within(required=True, block=thaw),
        )

    def test_not_wanted(self) -> None:
        self.assertFalse(self.frozen_within(wanted=False))

    def test_paused_meanwhile(self) -> None:
        self.domain.state_now = base.PAUSED
        self.assertFalse(self.frozen_within())

    def test_thawed_when_the_block_fails(self) -> None:
        def fail() -> None:
            self.assertTrue(self.domain.is_frozen)
            raise ZeroDivisionError

        with testtools.ExpectedException(ZeroDivisionError):
            self.frozen_within(block=fail)
        self.assertFalse(self.domain.is_frozen)

    def test_failed_freeze_goes_on_and_thaws(self) -> None:
        self.check_failing_freeze(unresponsive)

    def test_refused_freeze_goes_on_and_thaws(self) -> None:
        def refuse() -> None:
            raise fake_libvirt.error(
                libvirt.VIR_ERR_INTERNAL_ERROR, 'failed to freeze /: busy'
            )

        self.check_failing_freeze(refuse)

    def check_failing_freeze(self, freeze: Callable[[], None]) -> None:
        """Check that a failed freeze is only a warning, and is thawed."""
        thawed: list[int] = []
        self.domain.freeze = freeze
        self.domain.thaw = lambda: thawed.append(1)
        self.assertFalse(self.frozen_within())
        self.assertEqual([1], thawed)
        self.assertIn('could not be frozen', self.log.output)

    def test_failed_freeze_fails_the_snapshot_where_it_is_required(
        self,
    ) -> None:
        thawed: list[int] = []
        self.domain.freeze = unresponsive
        self.domain.thaw = lambda: thawed.append(1)
        error = self.assertRaises(
            exception.QuiesceNotPossible, self.frozen_within, required=True
        )
        self.assertIn('did not respond in time', str(error))
        self.assertEqual([1], thawed)
        self.assertEqual([], self.steps_left())

    def test_freeze_that_comes_too_late_is_thawed(self) -> None:
        answers = iter([unresponsive, unresponsive, lambda: None])

        def freeze() -> None:
            self.domain.is_frozen = True
            unresponsive()

        self.domain.freeze = freeze
        self.domain.thaw = lambda: next(answers)()
        self.frozen_within()
        self.assertFalse(self.domain.is_frozen)
        self.assertEqual([], self.steps_left())

    def test_thaw_that_never_works_stays_owed(self) -> None:
        self.useFixture(
            fixtures.MonkeyPatch(
                'nova_snap.virt.libvirt.guest.THAW_TIMEOUT', 0.1
            )
        )
        self.domain.thaw = unresponsive
        began = time.monotonic()
        self.assertTrue(self.frozen_within())
        self.assertGreaterEqual(time.monotonic() - began, 0.1)
        self.assertEqual(['thaw the guest'], self.steps_left())
        self.assertIn('thaw the guest', self.log.output)

    def test_guest_that_goes_meanwhile_needs_no_thawing(self) -> None:
        def end() -> None:
            self.domain.exists = False

        self.frozen_within(block=end)
        self.assertEqual([], self.steps_left())

    def test_guest_that_stops_meanwhile_needs_no_thawing(self) -> None:
        asked: list[Any] = []
        self.domain.thaw = lambda: asked.append(1)

        def stop() -> None:
            self.domain.state_now = base.SHUTOFF

        self.frozen_within(block=stop)
        self.assertEqual([], asked)
        self.assertEqual([], self.steps_left())
