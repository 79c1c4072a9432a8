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

"""Guests that belong to a program around us."""

import pathlib
from typing import Any

from nova_snap import this_host
from nova_snap import undo
from nova_snap.virt.libvirt import hooks
from nova_snap.virt.libvirt import undo_steps
from tests.unit import base as unit_base
from tests.unit.virt.libvirt import base
from tests.unit.virt.libvirt import fake_libvirt
from tests.unit.virt.libvirt import samples


class Hooks(hooks.Hooks):
    """Hooks that note what they were asked."""

    def __init__(self) -> None:
        self.deleting = False
        self.moved = False
        self.wanted = True
        self.asked: list[str] = []

    def is_being_deleted(self, instance_uuid: str) -> bool:
        self.asked.append('deleted?')
        return self.deleting

    def has_moved(
        self, instance_uuid: str, origin: this_host.Origin, xml: str
    ) -> bool:
        self.asked.append('moved?')
        return self.moved

    def has_to_run(self, instance_uuid: str) -> bool:
        return self.wanted

    def prepare_start(self, instance_uuid: str) -> None:
        self.asked.append('prepare')


class OwnedGuestTest(base.GuestTestCase):
    """Undo steps ask the hooks."""

    def setUp(self) -> None:
        super().setUp()
        self.domain = fake_libvirt.Domain(samples.raw_disk())
        self.guest = self.use(self.domain)
        self.hooks = Hooks()
        self.resources = undo.Resources(self.guest, self.hooks)

    def save(self) -> None:
        """As a managed save leaves it."""
        self.domain.state_now, self.domain.is_saved = base.SHUTOFF, True

    def test_is_asked_before_a_guest_starts(self) -> None:
        self.save()
        undo_steps.Resume(paused=False).undo(self.resources)
        self.assertEqual(['deleted?', 'prepare'], self.hooks.asked)
        self.assertEqual(base.RUNNING, self.domain.state_now)

    def test_guest_that_is_being_deleted_is_not_started(self) -> None:
        self.save()
        self.hooks.deleting = True
        undo_steps.Resume(paused=False).undo(self.resources)
        self.assertEqual(base.SHUTOFF, self.domain.state_now)
        self.assertIn('is being deleted', self.log.output)

    def test_guest_that_is_being_deleted_is_not_defined(self) -> None:
        self.domain.exists = False
        self.hooks.deleting = True
        undo_steps.Define('<domain/>', autostart=False).undo(self.resources)
        self.assertFalse(self.domain.exists)


class RecoveryTest(OwnedGuestTest):
    """A recovery asks more, since it may come days later."""

    def setUp(self) -> None:
        super().setUp()
        self.resources = undo.Resources(
            self.guest, self.hooks, this_host.UNKNOWN
        )

    def test_is_asked_before_a_guest_starts(self) -> None:
        self.save()
        undo_steps.Resume(paused=False).undo(self.resources)
        self.assertEqual(['deleted?', 'moved?', 'prepare'], self.hooks.asked)
        self.assertEqual(base.RUNNING, self.domain.state_now)

    def test_guest_that_has_moved_is_left_alone(self) -> None:
        self.save()
        self.hooks.moved = True
        undo_steps.Resume(paused=False).undo(self.resources)
        undo_steps.Thaw().undo(self.resources)
        self.assertEqual(base.SHUTOFF, self.domain.state_now)
        self.domain.exists = False
        undo_steps.Define('<domain/>', autostart=False).undo(self.resources)
        self.assertFalse(self.domain.exists)
        self.assertIn('was moved to another host', self.log.output)

    def test_guest_that_is_to_be_shut_off_is_not_started(self) -> None:
        self.save()
        self.hooks.wanted = False
        undo_steps.Resume(paused=False).undo(self.resources)
        self.assertEqual(base.SHUTOFF, self.domain.state_now)
        self.assertIn('is to be shut off', self.log.output)


class NoneTest(unit_base.TestCase):
    """Guests that libvirt alone looks after."""

    def test_leaves_everything_to_the_pipelines(self) -> None:
        none: Any = hooks.NONE
        self.assertFalse(none.is_being_deleted('uuid'))
        self.assertIsNone(none.without_devices(None, None))
        with none.reading(None, None):
            none.take_back(pathlib.Path('/nonexistent'))
