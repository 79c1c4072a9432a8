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

"""Recovery at the start of nova-compute, and after it."""

import pathlib
import threading
import uuid

from keystoneauth1 import loading as ks_loading
from nova import objects
from nova.objects import instance as nova_instance

from nova_snap import undo
from nova_snap.compute import image_upload
from nova_snap.nova import recovery
from nova_snap.nova import settings
from nova_snap.nova import snapshots
from nova_snap.virt.libvirt import undo_steps
from tests.nova import base
from tests.unit import journals
from tests.unit.virt.libvirt import fake_libvirt
from tests.unit.virt.libvirt import samples


class RecoveryTest(base.NovaTestCase):
    """What is in the journal of [nova_snap] state_path."""

    def setUp(self) -> None:
        super().setUp()
        driver = self.driver()
        self.domain = base.Domain()
        self.guest_of(driver, self.domain)
        self.patch(
            nova_instance.Instance,
            'get_by_uuid',
            lambda *_args, **_kwargs: self.instance(
                task_state=None, vm_state='active', host=base.CONF.host
            ),
        )
        self.patch(objects.MigrationList, 'get_by_filters', lambda *_args: [])
        self.snapshots = snapshots.Snapshots(driver)
        directory = settings.driver_options().snapshots_directory
        self.folder_left = directory / str(uuid.uuid4())
        self.folder_left.mkdir(parents=True)

    def leave(self, step: undo.Step) -> None:
        """As a nova-compute that was killed."""
        journals.leave(
            settings.state_path() / 'journal',
            samples.UUID,
            'web',
            undo_steps.RemoveFolder(str(self.folder_left)),
            step,
        )

    def left(self) -> list[str]:
        """Return the kinds of the steps that are still to be undone."""
        entries = settings.make_journal().entries()
        return [kind for entry in entries for kind in entry.kinds]

    def test_nothing_to_do(self) -> None:
        self.assertTrue(recovery.recover(self.snapshots))

    def test_progress_is_taken_back(self) -> None:
        written: list[int] = []

        def load(*_arguments: object, **_keywords: object) -> object:
            instance = self.instance(
                task_state=None,
                vm_state='active',
                host=base.CONF.host,
                progress=40,
            )
            self.patch(
                instance, 'save', lambda: written.append(instance.progress)
            )
            return instance

        self.patch(nova_instance.Instance, 'get_by_uuid', load)
        self.leave(undo_steps.RemoveFolder(str(self.folder_left)))
        self.assertTrue(recovery.recover(self.snapshots))
        self.assertEqual([0], written)

    def test_journal_among_packages_is_warned_of(self) -> None:
        driver = self.driver()
        snapshots.Snapshots(driver)
        self.assertNotIn('among the packages', self.log.output)
        packages = pathlib.Path(nova_instance.__file__).parents[2]
        self.configure(f'[nova_snap]\nstate_path = {packages}/nova_snap\n')
        snapshots.Snapshots(driver)
        self.assertIn('among the packages', self.log.output)

    def test_unreadable_entry_is_not_nothing(self) -> None:
        journal = settings.state_path() / 'journal'
        journal.mkdir(parents=True)
        (journal / 'x.json').write_text('{bad')
        self.assertFalse(recovery.recover(self.snapshots))
        self.assertIn(f'{journal}/x.json is unreadable', self.log.output)

    def test_guest_is_resumed(self) -> None:
        self.domain.state_now = fake_libvirt.libvirt.VIR_DOMAIN_SHUTOFF
        self.domain.is_saved = True
        self.leave(undo_steps.Resume(paused=False))
        self.assertTrue(recovery.recover(self.snapshots))
        self.assertFalse(self.domain.is_saved)
        self.assertFalse(self.folder_left.exists())
        self.assertEqual([], self.left())
        self.assertIn('has been undone', self.log.output)

    def test_image_is_named_where_there_is_no_login(self) -> None:
        self.leave(image_upload.RemoveRecord('the-image'))
        self.assertFalse(recovery.recover(self.snapshots))
        self.assertEqual(['remove the image record'], self.left())
        self.assertFalse(self.folder_left.exists())
        self.assertIn('the-image', self.log.output)

    def test_login_that_can_not_be_used_stops_nothing_else(self) -> None:
        ks_loading.register_auth_conf_options(base.CONF, 'service_user')
        base.CONF.set_override('auth_type', 'nonsense', 'service_user')
        self.addCleanup(base.CONF.clear_override, 'auth_type', 'service_user')
        self.leave(image_upload.RemoveRecord('the-image'))
        self.assertFalse(recovery.recover(self.snapshots))
        self.assertFalse(self.folder_left.exists())
        self.assertIn('the-image', self.log.output)

    def test_nova_compute_does_not_wait_for_ever(self) -> None:
        self.patch(recovery, 'START_TIMEOUT', 0.1)
        ended = threading.Event()
        self.addCleanup(ended.set)
        self.patch(self.snapshots, 'recover', ended.wait)
        recovery.run(self.snapshots)
        self.assertFalse(ended.is_set())
        self.assertIn('goes on while nova-compute starts', self.log.output)

    def test_nova_compute_starts_whatever_happens(self) -> None:
        self.patch(self.snapshots, 'recover', lambda: 1 / 0)
        self.assertFalse(recovery.recover(self.snapshots))
        self.assertIn('could not be recovered', self.log.output)


class PauseTest(base.NovaTestCase):
    """How often it looks."""

    def test_less_and_less_often_while_it_is_in_vain(self) -> None:
        pauses = [60.0]
        for _time in range(7):
            pauses.append(recovery.next_pause(pauses[-1], done=False))
        self.assertEqual([60, 120, 240, 480, 960, 1920, 3600, 3600], pauses)
        self.assertEqual(60, recovery.next_pause(3600, done=True))
