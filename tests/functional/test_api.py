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

"""``nova-snap-api`` as a process, with real guests and a client of Nova."""

import contextlib
import os
import signal
import stat
from typing import Any
from typing import ClassVar

import openstack
from prometheus_client import parser

from tests.functional import api_base
from tests.functional import base
from tests.functional import content
from tests.lab import exhaustive
from tests.lab import guest as guest_lib
from tests.lab import root_disk


class ApiTestCase(api_base.ServiceTestCase):
    """A running guest, and the service beside it."""

    GUEST_GROUP = 'agent'

    #: Slow enough for a test to do something meanwhile.
    SLOW: ClassVar[dict[str, str]] = {
        **content.PULL['snapshot'],
        'bandwidth_limit_mb': '1',
        # Compressed, the disk of a test is sent in two or three pieces.
        'compression': 'off',
    }

    def setUp(self) -> None:
        super().setUp()
        self.guest = self.class_guest(agent=True)
        self.found = base.Found.of(self.guest)

    def create_image(self, metadata: dict[str, str] | None = None) -> str:
        """Ask for an image; return its ID."""
        status, document = self.call(
            'POST',
            f'/v2.1/servers/{self.guest.uuid}/action',
            {'createImage': {'name': 'image', 'metadata': metadata or {}}},
        )
        self.assertEqual(202, status, document)
        image_id: str = document['image_id']
        return image_id

    def event(self) -> dict[str, Any]:
        """Return the event of the last action on the guest."""
        path = f'/v2.1/servers/{self.guest.uuid}/os-instance-actions'
        last = self.get(path)[1]['instanceActions'][0]
        self.assertEqual('createImage', last['action'])
        shown = self.get(f'{path}/{last["request_id"]}')[1]['instanceAction']
        events: list[dict[str, Any]] = shown['events']
        return events[0] if events else {'result': None}

    def wait_for_result(self, process: Any) -> dict[str, Any]:
        """Wait until the last action has ended; return its event."""
        self.wait_until(
            process, 'the action has ended', lambda: self.event()['result']
        )
        return self.event()

    def wait_for_upload(self, process: Any) -> str:
        """Begin an image; return its ID when data of it are sent."""
        image_id = self.create_image()
        self.wait_until(
            process,
            'data are sent',
            lambda: self.images.get(image_id).status == 'saving',
        )
        return image_id

    def assert_measured(self, size: int) -> None:
        """Check what Prometheus is told after an image of the guest."""
        with contextlib.closing(self.make_connection()) as connection:
            connection.request('GET', '/metrics')
            said = connection.getresponse().read().decode()
        found = {
            (sample.name, sample.labels.get('result')): sample.value
            for family in parser.text_string_to_metric_families(said)
            for sample in family.samples
            if sample.labels.get('method') == 'mirror'
        }
        self.assertEqual(1, found['nova_snap_snapshots_total', 'done'])
        self.assertEqual(size, found['nova_snap_image_bytes_total', None])
        self.assertEqual(0, found['nova_snap_snapshots_running', None])
        # Its agent has frozen the guest once.
        frozen = 'nova_snap_guest_frozen_seconds'
        self.assertEqual(1, found[f'{frozen}_count', None])
        self.assertGreater(found[f'{frozen}_sum', None], 0)
        took = found['nova_snap_snapshot_duration_seconds_sum', None]
        self.assertGreater(took, found[f'{frozen}_sum', None])
        for name in (self.guest.uuid, self.guest.name):
            self.assertNotIn(name, said)

    def assert_undone(self, image_id: str) -> None:
        """Check that nothing of an image is left, and the guest is well."""
        ids = [image.id for image in self.images.list()]
        self.assertNotIn(image_id, ids)
        self.assert_as_found(self.guest, self.found)
        self.assert_nothing_left()


class TestService(ApiTestCase):
    """The service with native threads."""

    def test_a_client_takes_an_image(self) -> None:
        service = self.start_service()
        ticks = self.guest.ticks()
        cloud = openstack.connection.Connection(
            auth_type='none',
            compute_endpoint_override=f'http://127.0.0.1:{self.port}/v2.1',
        )
        answer = cloud.compute.post(
            f'/servers/{self.guest.uuid}/action',
            json={'createImage': {'name': 'image'}},
            microversion='2.45',
        )
        self.assertEqual(202, answer.status_code, answer.text)
        event = self.wait_for_result(service)
        self.assertEqual('Success', event['result'], event)
        image_id = answer.json()['image_id']
        self.assert_one_moment(self.image(image_id), ticks)
        self.assert_as_found(self.guest, self.found)
        self.assert_nothing_left()
        self.assert_measured(self.image_file(image_id).stat().st_size)

    def test_all_disks(self) -> None:
        """One image of each disk, as a property of the request wants."""
        disks = [
            root_disk.make(
                guest_lib.disks_directory(self.libvirtd),
                root_disk.Kind.RAW,
                name=f'data-{os.urandom(4).hex()}',
                size=16 * root_disk.MIB,
                files={'/data': os.urandom(1 << 20)},
            )
            for _ in range(2)
        ]
        self.guest = self.make_guest(start=False, extra_disks=tuple(disks))
        service = self.start_service()
        image_id = self.create_image({'nova_snap:disks': 'all', 'own': 'x'})
        event = self.wait_for_result(service)
        self.assertEqual('Success', event['result'], event)
        made = {image.name: image for image in self.images.list()}
        self.assertEqual(['image', 'image-vdc', 'image-vdd'], sorted(made))
        self.assertEqual(image_id, made['image'].id)
        for name, disk in zip(('image-vdc', 'image-vdd'), disks, strict=True):
            self.assertEqual('x', made[name].properties['own'])
            self.assert_equal_to_disk(self.image(made[name].id), disk)
        self.assert_nothing_left()

    def test_killed_and_started_again(self) -> None:
        service = self.start_service(snapshot=self.SLOW)
        image_id = self.wait_for_upload(service)
        service.kill()
        service.wait()
        service = self.start_service()
        self.assert_undone(image_id)
        event = self.event()
        self.assertEqual('Error', event['result'])
        self.assertIn('service ended', event['details'])
        # The guest is free for the next one.
        self.create_image()
        self.assertEqual('Success', self.wait_for_result(service)['result'])

    def test_terminated(self) -> None:
        service = self.start_service(
            snapshot=self.SLOW, api={'graceful_shutdown_timeout': '0'}
        )
        image_id = self.wait_for_upload(service)
        service.send_signal(signal.SIGTERM)
        self.assertEqual(0, self.finish(service).returncode)
        self.assert_undone(image_id)
        self.start_service()
        event = self.event()
        self.assertEqual('Error', event['result'])
        self.assertIn('being stopped', event['details'])

    def test_one_service_for_a_directory(self) -> None:
        (self.state_path / 'api.lock').touch(mode=0o644)
        self.BY_FORK = False
        self.start_service()
        done = self.finish(self.start_service_process())
        self.assertEqual(1, done.returncode)
        self.assertIn('Another nova-snap-api', done.stderr)
        # Others could hold a lock that they may open.
        mode = (self.state_path / 'api.lock').stat().st_mode
        self.assertEqual(0o600, stat.S_IMODE(mode))


@exhaustive.usually()
class TestServiceEventlet(TestService):
    """The same with eventlet, which is the default."""

    BACKEND = 'eventlet'
