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

"""Power actions by ``nova-snap-api``, on real guests."""

import os
from typing import Any
from typing import ClassVar

from tests.functional import api_base
from tests.functional import base
from tests.functional import content
from tests.lab import domain
from tests.lab import exhaustive
from tests.lab import guest as guest_lib
from tests.lab import root_disk

#: What init.sh prints first, and what it prints when the agent ends it.
BOOTED = 'GUEST-UP'
SHUT_DOWN = 'SHUTDOWN'

#: Longer than a test lasts: a guest is not switched off meanwhile.
PATIENT = {
    'DEFAULT': {'shutdown_timeout': '1000'},
    'libvirt': {'wait_soft_reboot_seconds': '1000'},
}

#: A guest that does not hear is switched off soon.
HASTY = {
    'DEFAULT': {'shutdown_timeout': '1'},
    'libvirt': {'wait_soft_reboot_seconds': '1'},
}


class PowerTestCase(api_base.ServiceTestCase):
    """The service, and guests that it switches on and off."""

    guest: guest_lib.Guest
    service: Any

    def act(self, action: str, value: Any = None) -> tuple[int, Any]:
        """Ask for an action on the guest."""
        path = f'/v2.1/servers/{self.guest.uuid}/action'
        return self.call('POST', path, {action: value})

    def shown(self) -> dict[str, Any]:
        """Return the guest as clients see it."""
        document = self.get(f'/v2.1/servers/{self.guest.uuid}')[1]
        found: dict[str, Any] = document['server']
        return found

    def act_and_wait(self, status: str, action: str, value: Any = None) -> Any:
        """Ask for an action, wait for its end; return its event."""
        answer = self.act(action, value)
        self.assertEqual(202, answer[0], answer)
        self.wait_until(
            self.service,
            f'{action} has ended',
            lambda: self.shown()['OS-EXT-STS:task_state'] is None,
        )
        self.assertEqual(status, self.shown()['status'])
        return self.event()

    def event(self) -> dict[str, Any]:
        """Return the event of the last action."""
        path = f'/v2.1/servers/{self.guest.uuid}/os-instance-actions'
        last = self.get(path)[1]['instanceActions'][0]['request_id']
        action = self.get(f'{path}/{last}')[1]['instanceAction']
        (event,) = action['events']
        found: dict[str, Any] = event
        return found

    def boots(self) -> int:
        """Return how often the guest has booted."""
        return self.guest.console().count(BOOTED)

    def assert_refused(self, sentence: str, action: str, value: Any) -> None:
        """Check that an action is a conflict, and the guest runs on."""
        status, document = self.act(action, value)
        self.assertEqual(409, status, document)
        self.assertIn(sentence, document['conflictingRequest']['message'])
        self.assertTrue(self.guest.is_ticking())


class TestActions(PowerTestCase):
    """Each action, with native threads."""

    GUEST_GROUP = 'agent'

    def setUp(self) -> None:
        super().setUp()
        self.guest = self.class_guest(agent=True)
        self.found = base.Found.of(self.guest)
        self.service = self.start_service(**PATIENT)

    def test_each(self) -> None:
        boots = self.boots()
        event = self.act_and_wait('PAUSED', 'pause')
        self.assertEqual('compute_pause_instance', event['event'])
        self.assertEqual('paused', self.guest.state())
        self.act_and_wait('ACTIVE', 'unpause')
        self.assertTrue(self.guest.is_ticking())
        self.act_and_wait('SUSPENDED', 'suspend')
        self.assertTrue(self.guest.has_managed_save())
        self.act_and_wait('ACTIVE', 'resume')
        self.assert_as_found(self.guest, self.found)
        self.assertEqual(boots, self.boots())
        self.check_ends(boots)
        self.assert_as_found(self.guest, self.found)
        self.assert_nothing_left()

    def check_ends(self, boots: int) -> None:
        """Stop, start and reboot the guest; it shuts down by its agent."""
        self.guest.wait_until_up()
        self.act_and_wait('SHUTOFF', 'os-stop')
        self.assertEqual('shut off', self.guest.state())
        self.assertEqual(1, self.guest.console().count(SHUT_DOWN))
        self.act_and_wait('ACTIVE', 'os-start')
        self.guest.wait_until_up()
        self.act_and_wait('ACTIVE', 'reboot', {'type': 'SOFT'})
        self.guest.wait_until_up()
        self.assertEqual(boots + 2, self.boots())
        self.assertEqual(2, self.guest.console().count(SHUT_DOWN))
        self.act_and_wait('ACTIVE', 'reboot', {'type': 'HARD'})
        self.guest.wait_until_up()
        self.assertEqual(boots + 3, self.boots())
        self.assertEqual(2, self.guest.console().count(SHUT_DOWN))


@exhaustive.usually(
    'test_a_guest_that_does_not_hear',
    'test_backups_of_two_servers',
    'test_images_in_each_state',
    'test_killed_in_a_reboot',
    'test_not_while_an_image_is_made',
    'test_started_by_another_program_in_a_reboot',
)
class TestStates(PowerTestCase):
    """States of the guest, and of the service; it serves by eventlet."""

    BACKEND = 'eventlet'
    GUEST_GROUP = 'plain'

    #: Slow enough for a test to do something meanwhile.
    SLOW: ClassVar[dict[str, str]] = {
        **content.PULL['snapshot'],
        'bandwidth_limit_mb': '1',
        'compression': 'off',
    }

    def setUp(self) -> None:
        super().setUp()
        # Without an agent it does not hear that it is to shut down.
        self.guest = self.class_guest()

    def create(self, uuid: str, name: str, **backup: Any) -> str:
        """Have an image made; return its ID when it is active."""
        action = 'createBackup' if backup else 'createImage'
        path = f'/v2.1/servers/{uuid}'
        status, document = self.call(
            'POST', f'{path}/action', {action: {'name': name, **backup}}
        )
        self.assertEqual(202, status, document)
        self.wait_until(
            self.service,
            'the image is made',
            lambda: (
                self.get(path)[1]['server']['OS-EXT-STS:task_state'] is None
            ),
        )
        image_id: str = document['image_id']
        return image_id

    def test_images_in_each_state(self) -> None:
        self.service = self.start_service(**HASTY)
        name = '映像' * 100
        for status, action, back in (
            ('PAUSED', 'pause', 'unpause'),
            ('SUSPENDED', 'suspend', 'resume'),
            ('SHUTOFF', 'os-stop', None),
        ):
            event = self.act_and_wait(status, action)
            self.assertEqual('Success', event['result'])
            image = self.image(self.create(self.guest.uuid, name))
            self.assertEqual(name, image.record.name)
            self.assert_one_moment(image, 1)
            self.assertEqual(status, self.shown()['status'])
            if back is not None:
                self.act_and_wait('ACTIVE', back)
        self.assert_nothing_left()

    def test_backups_of_two_servers(self) -> None:
        self.service = self.start_service()
        other = self.make_guest(start=False)
        kept = [self.create(other.uuid, 'x', backup_type='d', rotation=1)]
        for number in range(3):
            made = self.create(
                self.guest.uuid, f'{number}', backup_type='d', rotation=2
            )
            kept.append(made)
        found = {image.id for image in self.images.list()}
        self.assertEqual({kept[0], *kept[2:]}, found)

    def test_not_while_an_image_is_made(self) -> None:
        self.service = self.start_service(snapshot=self.SLOW)
        path = f'/v2.1/servers/{self.guest.uuid}'
        status, document = self.act('createImage', {'name': 'x'})
        self.assertEqual(202, status, document)
        self.assert_refused('task_state image_', 'os-stop', None)
        self.assert_refused('task_state image_', 'reboot', {'type': 'HARD'})
        self.assert_refused('task_state image_', 'createImage', {'name': 'y'})
        cancelled = f'{path}/snapshots/{document["image_id"]}'
        self.assertEqual(202, self.call('DELETE', cancelled)[0])
        self.wait_until(
            self.service,
            'it is cancelled',
            lambda: self.shown()['OS-EXT-STS:task_state'] is None,
        )
        command = self.start('image-create', self.guest.uuid, 'x')
        self.wait_until(
            self.service,
            'the command makes an image',
            lambda: any(
                image.status == 'saving' for image in self.images.list()
            ),
        )
        self.assert_refused('task_state image_snapshot', 'pause', None)
        command.terminate()
        self.finish(command)
        self.assert_nothing_left()

    def test_a_guest_that_does_not_hear(self) -> None:
        self.service = self.start_service(**HASTY)
        boots = self.boots()
        event = self.act_and_wait('ACTIVE', 'reboot', {'type': 'SOFT'})
        self.assertEqual('Success', event['result'])
        self.guest.wait_until_up()
        self.assertEqual(boots + 1, self.boots())

    def test_killed_in_a_reboot(self) -> None:
        self.service = self.start_service(**PATIENT)
        found = base.Found.of(self.guest)
        self.assertEqual(202, self.act('reboot', {'type': 'SOFT'})[0])
        self.wait_until(
            self.service,
            'it waits for the guest',
            lambda: (
                self.shown()['status'] == 'REBOOT'
                and list((self.state_path / 'journal').iterdir())
            ),
        )
        self.service.kill()
        self.service.wait()
        # Now the guest has heard.
        self.guest.destroy()
        self.service = self.start_service()
        self.guest.wait_until_up()
        self.assert_as_found(self.guest, found)
        event = self.event()
        self.assertEqual('Error', event['result'])
        self.assertIn('vm_state active', event['details'])
        self.assert_nothing_left()

    def test_stopped_in_a_reboot(self) -> None:
        """The guest is not switched off, but it is started again."""
        self.service = self.start_service(
            **PATIENT, api={'graceful_shutdown_timeout': '0'}
        )
        boots = self.boots()
        self.assertEqual(202, self.act('reboot', {'type': 'SOFT'})[0])
        self.wait_until(
            self.service,
            'it waits for the guest',
            lambda: self.shown()['OS-EXT-STS:task_state'] == 'reboot_started',
        )
        self.service.terminate()
        self.assertEqual(0, self.service.wait(base.TIMEOUT))
        self.assertTrue(self.guest.is_ticking())
        # Now the guest has heard.
        self.guest.destroy()
        self.service = self.start_service()
        self.guest.wait_until_up()
        self.assertEqual(boots + 1, self.boots())
        event = self.event()
        self.assertEqual('Error', event['result'])
        self.assertIn('is left to that', event['details'])
        self.assert_nothing_left()

    def test_hard_instead_of_soft(self) -> None:
        self.service = self.start_service(**PATIENT)
        self.assertEqual(202, self.act('reboot', {'type': 'SOFT'})[0])
        self.wait_until(
            self.service,
            'it waits for the guest',
            lambda: self.shown()['OS-EXT-STS:task_state'] == 'reboot_started',
        )
        event = self.act_and_wait('ACTIVE', 'reboot', {'type': 'HARD'})
        self.assertEqual('Success', event['result'])
        self.guest.wait_until_up()

    def test_stopped_by_another_program(self) -> None:
        self.service = self.start_service(**PATIENT)
        self.assertEqual(202, self.act('os-stop')[0])
        self.guest.destroy()
        self.wait_until(
            self.service,
            'it has ended',
            lambda: self.shown()['status'] == 'SHUTOFF',
        )
        self.assertEqual('Success', self.event()['result'])

    def test_started_by_another_program_in_a_reboot(self) -> None:
        """What others have begun meanwhile is not ended."""
        self.service = self.start_service(**PATIENT)
        boots = self.boots()
        self.assertEqual(202, self.act('reboot', {'type': 'SOFT'})[0])
        self.wait_until(
            self.service,
            'it waits for the guest',
            lambda: list((self.state_path / 'journal').iterdir()),
        )
        self.guest.destroy()
        with self.guest.domain() as found:
            if not found.isActive():
                found.create()
        self.wait_until(
            self.service,
            'the reboot has ended',
            lambda: self.shown()['status'] == 'ACTIVE',
        )
        self.guest.wait_until_up()
        self.assertEqual(boots + 1, self.boots())


@exhaustive.usually('test_another_disk_than_is_defined')
class TestRefused(PowerTestCase):
    """Guests that would not come back as they are, and those of Nova."""

    def start_with(self, **options: Any) -> None:
        """Start a guest of this test, and the service."""
        self.guest = self.make_guest(**options)
        self.service = self.start_service()

    def test_transient(self) -> None:
        self.start_with(persistent=False)
        for action, value in (
            ('os-stop', None),
            ('suspend', None),
            ('reboot', {'type': 'HARD'}),
        ):
            self.assert_refused('transient', action, value)

    def test_a_missing_file(self) -> None:
        disk = root_disk.make(
            guest_lib.disks_directory(self.libvirtd),
            root_disk.Kind.RAW,
            name=f'gone-{os.urandom(4).hex()}',
            size=16 << 20,
        )
        self.start_with(extra_disks=(disk,))
        disk.path.unlink()
        self.assert_refused('does not exist', 'suspend', None)
        self.assert_refused('does not exist', 'reboot', {'type': 'SOFT'})

    def test_another_disk_than_is_defined(self) -> None:
        """A start would go on with data that are older."""
        self.start_with()
        overlay = self.libvirtd.state / 'disks' / os.urandom(4).hex()
        self.addCleanup(overlay.unlink, missing_ok=True)
        defined = self.guest.inactive_xml()
        with self.guest.domain() as found:
            found.snapshotCreateXML(
                '<domainsnapshot><disks><disk name="vda" type="file">'
                f'<source file="{overlay}"/></disk></disks></domainsnapshot>',
                0x10 | 0x4,  # of disks only, without metadata
            )
        with self.libvirtd.connection() as connection:
            connection.defineXML(defined)
        self.assert_refused('another disk vda', 'os-stop', None)
        self.assert_refused('another disk vda', 'reboot', {'type': 'HARD'})

    def test_nova(self) -> None:
        self.start_with(metadata=domain.NovaMetadata('of Nova'))
        self.assert_refused('a server of Nova', 'os-stop', None)
        self.service.terminate()
        self.finish(self.service)
        self.service = self.start_service(
            api={'power_actions_on_nova_servers': 'true'},
            DEFAULT={'shutdown_timeout': '0'},
        )
        self.act_and_wait('SHUTOFF', 'os-stop')
