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
import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from typing import Any
from typing import ClassVar

import openstack

from tests.functional import base
from tests.functional import content


class ApiTestCase(content.ContentTestCase):
    """A running guest, and the service beside it."""

    #: Slow enough for a test to do something meanwhile.
    SLOW: ClassVar[dict[str, str]] = {
        **content.PULL['snapshot'],
        'bandwidth_limit_mb': '1',
    }

    BACKEND: ClassVar[str] = 'threading'

    def setUp(self) -> None:
        super().setUp()
        self.guest = self.class_guest(agent=True)
        self.found = base.Found.of(self.guest)
        with contextlib.closing(socket.socket()) as free:
            free.bind(('127.0.0.1', 0))
            self.port: int = free.getsockname()[1]

    def configure(self, **sections: dict[str, str]) -> None:
        api = {'concurrency_backend': self.BACKEND}
        if hasattr(self, 'port'):
            api['port'] = str(self.port)
        sections['api'] = {**api, **sections.get('api', {})}
        super().configure(**sections)

    def start_service(self, **sections: dict[str, str]) -> Any:
        """Start the service; return its process when it answers."""
        self.configure(**sections)
        process = self.start_process(
            [
                *(sys.executable, '-m', 'nova_snap.cmd.api'),
                *('--config-file', str(self.config)),
            ],
            env=without_backend(),
        )
        self.wait_until(
            process, 'the service answers', lambda: self.get('/')[0] == 200
        )
        return process

    def wait_until(
        self, process: 'subprocess.Popen[str]', what: str, is_so: Any
    ) -> None:
        """Wait until something is so, while the service runs."""
        deadline = time.monotonic() + base.TIMEOUT
        while True:
            with contextlib.suppress(ConnectionError):
                if is_so():
                    return
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                self.finish(process)
                self.fail(f'It did not come true that {what}.')
            time.sleep(0.1)

    def call(
        self, method: str, path: str, body: Any = None
    ) -> tuple[int, Any]:
        """Send a request; return the status and the document."""
        connection = http.client.HTTPConnection(
            '127.0.0.1', self.port, timeout=60
        )
        with contextlib.closing(connection):
            connection.request(
                method,
                path,
                None if body is None else json.dumps(body),
                {'OpenStack-API-Version': 'compute 2.84'},
            )
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None

    def get(self, path: str) -> tuple[int, Any]:
        """Send a GET."""
        return self.call('GET', path)

    def create_image(self) -> str:
        """Ask for an image; return its ID."""
        status, document = self.call(
            'POST',
            f'/v2.1/servers/{self.guest.uuid}/action',
            {'createImage': {'name': 'image'}},
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

    def assert_undone(self, image_id: str) -> None:
        """Check that nothing of an image is left, and the guest is well."""
        ids = [image.id for image in self.images.list()]
        self.assertNotIn(image_id, ids)
        self.assert_as_found(self.guest, self.found)
        self.assert_nothing_left()


def without_backend() -> dict[str, str]:
    """Return the environment without a choice of the backend."""
    found = base.environment()
    found.pop('NOVA_SNAP_CONCURRENCY_BACKEND', None)
    return found


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
        self.assert_one_moment(self.image(answer.json()["image_id"]), ticks)
        self.assert_as_found(self.guest, self.found)
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
        self.start_service()
        second = self.start_process(
            [
                *(sys.executable, '-m', 'nova_snap.cmd.api'),
                *('--config-file', str(self.config)),
            ]
        )
        done = self.finish(second)
        self.assertEqual(1, done.returncode)
        self.assertIn('Another nova-snap-api', done.stderr)


class TestServiceEventlet(TestService):
    """The same with eventlet, which is the default."""

    BACKEND = 'eventlet'
