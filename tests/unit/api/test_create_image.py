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

import threading
from typing import Any
from unittest import mock
import uuid

from oslo_context import context as log_context

from nova_snap import concurrency
from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap.api import calls
from nova_snap.api import snapshots
from nova_snap.image import api as image_api
from nova_snap.objects import task_state as task_states
from tests.unit import base as unit_base
from tests.unit.api import base
from tests.unit.compute import base as compute_base

SERVER = compute_base.INSTANCE.uuid
PATH = f'/v2.1/servers/{SERVER}/action'


class CreateImageTestCase(base.ApiTestCase):
    """Requests for images, of a server whose reading a test can hold."""

    def setUp(self) -> None:
        super().setUp()
        self.begun, self.shall_end = threading.Event(), threading.Event()
        self.addCleanup(self.wait_for_end)
        self.addCleanup(self.shall_end.set)

    def hold(self, request: compute_base.Request) -> None:
        """Read nothing before the test says so."""
        self.begun.set()
        while not self.shall_end.wait(0.02):
            request.progress.check()

    def create(
        self, name: Any = 'backup', version: str = '2.45', **fields: Any
    ) -> Any:
        """Ask for an image."""
        return self.call(
            'POST',
            PATH,
            {'createImage': {'name': name, **fields}},
            version=version,
        )

    def wait_for_end(self) -> None:
        """Wait until no snapshot runs any more."""
        self.wait_until(
            'every snapshot has ended', lambda: not list(self.accepted)
        )

    @property
    def accepted(self) -> Any:
        """Those of the service."""
        return self.services.snapshots


class TestCreateImage(CreateImageTestCase):
    """createImage, from the request to the image."""

    def test_the_image_becomes_active(self) -> None:
        answer = self.create(metadata={'color': 'red'})
        self.assertEqual(202, answer.status_int, answer.text)
        self.assertEqual(['image_id'], list(answer.json))
        self.wait_for_end()
        image = self.images.get(answer.json['image_id'])
        self.assertEqual(('active', 'backup'), (image.status, image.name))
        self.assertEqual('red', image.properties['color'])

    def test_a_name_that_the_image_service_refuses(self) -> None:
        answer = self.create(name='\U0001f600')
        self.assert_error(answer, 400, 'badRequest', 'more than three bytes')
        self.assertEqual([], list(self.images.list()))

    def test_before_2_45_the_id_is_in_the_location(self) -> None:
        for version in ('2.1', '2.44'):
            answer = self.create(version=version)
            self.assertEqual(202, answer.status_int)
            self.assertEqual(b'', answer.body)
            image_id = answer.headers['Location'].rpartition('/')[2]
            self.wait_for_end()
            self.assertEqual('active', self.images.get(image_id).status)

    def test_is_answered_while_the_snapshot_runs(self) -> None:
        self.driver.behave = self.hold
        image_id = self.create().json['image_id']
        self.assertEqual('queued', self.images.get(image_id).status)
        self.assertTrue(self.begun.wait(unit_base.PATIENCE))
        running = self.accepted.of(SERVER)
        self.assertEqual(image_id, running.image_id)
        self.assertEqual(
            task_states.TaskState.IMAGE_PENDING_UPLOAD, running.task_state
        )

    def test_what_its_thread_logs_names_the_request(self) -> None:
        seen: list[Any] = []
        self.driver.behave = lambda _request: seen.append(
            log_context.get_current()
        )
        request_id = self.create().headers['x-openstack-request-id']
        self.wait_for_end()
        self.assertEqual({request_id}, {found.request_id for found in seen})
        self.assertEqual({base.PROJECT}, {found.project_id for found in seen})

    def test_a_second_one_conflicts(self) -> None:
        self.driver.behave = self.hold
        self.create()
        self.assertTrue(self.begun.wait(unit_base.PATIENCE))
        self.assert_error(
            self.create(),
            409,
            'conflictingRequest',
            f"Cannot 'createImage' instance {SERVER} while it is in "
            'task_state image_pending_upload',
        )

    def test_one_of_another_process_conflicts(self) -> None:
        with self.locks.instance(SERVER):
            answer = self.create()
        self.assert_error(
            answer, 409, 'conflictingRequest', 'task_state image_snapshot'
        )
        self.assert_nothing_is_left()

    def test_waits_for_its_turn_with_a_record(self) -> None:
        with self.locks.snapshot_slot(progress_lib.Progress()):
            image_id = self.create().json['image_id']
            waiting = self.accepted.of(SERVER)
            self.assertTrue(waiting.is_waiting)
            self.assertEqual('image_snapshot_pending', waiting.task_state)
            self.assertEqual('queued', self.images.get(image_id).status)
        self.wait_for_end()
        self.assertEqual('active', self.images.get(image_id).status)

    def test_deleting_the_image_of_one_that_waits_cancels_it(self) -> None:
        with self.locks.snapshot_slot(progress_lib.Progress()):
            self.images.delete(self.create().json['image_id'])
            self.wait_for_end()
        self.assertIn('its image was deleted', self.log.output)
        self.assert_nothing_is_left()

    def test_without_a_thread_another_time(self) -> None:
        def fail(_name: str, _function: object) -> None:
            raise RuntimeError("can't start new thread")

        with mock.patch.object(concurrency, 'start_thread', fail):
            answer = self.create()
        self.assert_error(answer, 503, 'serviceUnavailable', 'try again')
        self.assertEqual(202, self.create().status_int)

    def test_deletes_the_record_of_a_failure(self) -> None:
        def fail(_request: compute_base.Request) -> None:
            raise exception.SnapshotFailed('It does not work.')

        self.driver.behave = fail
        self.assertEqual(202, self.create().status_int)
        self.wait_for_end()
        self.assertIn('It does not work.', self.log.output)
        self.assert_nothing_is_left()

    def test_says_at_once_what_the_core_refuses(self) -> None:
        self.driver.plan_error = exception.UnsupportedGuest(
            server=SERVER, reason='it has no disk.'
        )
        self.assert_error(self.create(), 400, 'badRequest', 'it has no disk.')
        self.assert_nothing_is_left()

    def test_shows_nothing_of_an_unknown_error(self) -> None:
        self.driver.plan_error = RuntimeError('secret')
        answer = self.create()
        self.assert_error(answer, 500, 'computeFault', 'Unexpected')
        self.assertNotIn('secret', answer.text)
        self.assertIn('secret', self.log.output)

    def test_names_in_three_byte_utf8(self) -> None:
        name = '備' * 255
        image_id = self.create(name).json['image_id']
        self.wait_for_end()
        self.assertEqual(name, self.images.get(image_id).name)


class TestQueue(CreateImageTestCase):
    """What the service accepts, and what it does at its end."""

    LIMIT = 1

    def test_a_full_queue_is_unavailable_for_a_moment(self) -> None:
        self.driver.behave = self.hold
        self.create()
        other = compute_base.OTHER
        self.driver.instance = (  # type: ignore[method-assign]
            lambda server: other
        )
        answer = self.call(
            'POST',
            f'/v2.1/servers/{other.uuid}/action',
            {'createImage': {'name': 'x'}},
        )
        self.assert_error(answer, 503, 'serviceUnavailable', 'try again')
        self.assertGreater(int(answer.headers['Retry-After']), 0)

    def test_stop_cancels_what_waits(self) -> None:
        with self.locks.snapshot_slot(progress_lib.Progress()):
            self.create()
            stopping = unit_base.Attempt(lambda: self.accepted.stop(3600))
            self.assertIsNone(stopping.wait().error)
        self.assert_error(
            self.create(), 503, 'serviceUnavailable', 'being stopped'
        )
        self.assertEqual([], list(self.images.list()))

    def test_stop_lets_end_what_runs(self) -> None:
        self.driver.behave = self.hold
        image_id = self.create().json['image_id']
        self.assertTrue(self.begun.wait(unit_base.PATIENCE))
        concurrency.start_thread(
            'stop', lambda: self.accepted.stop(unit_base.PATIENCE)
        )
        self.wait_until(
            'nothing is accepted', lambda: self.create().status_int == 503
        )
        self.shall_end.set()
        self.wait_for_end()
        self.assertEqual('active', self.images.get(image_id).status)

    def test_no_image_after_the_client_has_gone(self) -> None:
        self.patch(calls, 'ACCEPT_TIMEOUT', 0.1)
        real = self.images.create

        def late(record: image_api.Image) -> image_api.Image:
            self.shall_end.wait(unit_base.PATIENCE)
            return real(record)

        self.patch(self.images, 'create', late)
        self.assert_error(
            self.create(), 503, 'serviceUnavailable', 'no image record'
        )
        self.shall_end.set()
        self.wait_for_end()
        self.assertEqual([], self.services.actions.list(SERVER))
        self.assert_nothing_is_left()

    def test_stop_waits_for_no_undoing_for_ever(self) -> None:
        self.patch(snapshots, 'UNDO_TIMEOUT', 0.1)

        def hang(_request: compute_base.Request) -> None:
            self.begun.set()
            self.shall_end.wait(unit_base.PATIENCE)

        self.driver.behave = hang
        self.create()
        self.assertTrue(self.begun.wait(unit_base.PATIENCE))
        stopping = unit_base.Attempt(lambda: self.accepted.stop(0))
        self.assertIsNone(stopping.wait().error)
        self.assertIn('its next start does that', self.log.output)

    def test_stop_undoes_what_takes_too_long(self) -> None:
        self.driver.behave = self.hold
        self.create()
        self.assertTrue(self.begun.wait(unit_base.PATIENCE))
        self.accepted.stop(0)
        self.assertEqual([], list(self.images.list()))
        self.assertEqual([], list(self.journal.entries()))


class TestRequests(CreateImageTestCase):
    """What is no request for an image."""

    def assert_bad(self, body: Any, message: str) -> None:
        """Check that a body is refused, and nothing begun."""
        answer = self.call('POST', PATH, body, version='2.45')
        self.assert_error(answer, 400, 'badRequest', message)
        self.assertEqual([], list(self.images.list()))

    def test_names(self) -> None:
        for name in ('', ' ', ' x', 'x ', 'x\n', 'x\0y', 'x' * 256, 7, None):
            self.assert_bad({'createImage': {'name': name}}, 'name')

    def test_metadata(self) -> None:
        for metadata in (
            {'k' * 256: 'v'},
            {'k': 'v' * 256},
            {'k': 1},
            {'k': None},
            {'': 'v'},
            {'k\n': 'v'},
            {'ü': 'v'},
            [],
        ):
            self.assert_bad(
                {'createImage': {'name': 'x', 'metadata': metadata}}, ''
            )

    def test_reserved_metadata(self) -> None:
        """Of our own properties, only the wish for all disks may be there."""
        for key, value in (
            ('nova_snap:disks', 'vda'),
            ('nova_snap:set', 'all'),
            ('nova_snap:other', 'x'),
        ):
            answer = self.create(metadata={key: value})
            self.assert_error(answer, 400, 'badRequest', 'reserved')

    def test_too_much_metadata(self) -> None:
        answer = self.create(metadata={f'k{n}': 'v' for n in range(129)})
        self.assert_error(answer, 403, 'forbidden', 'limit exceeded')

    def test_actions(self) -> None:
        self.assert_bad({'createDream': {}}, 'createDream')
        self.assert_bad({}, 'exactly one')
        self.assert_bad({'createImage': {}, 'pause': None}, 'exactly one')
        self.assert_bad({'createImage': None}, 'createImage')
        self.assert_bad({'createImage': {'name': 'x', 'y': 1}}, "'y'")

    def test_bodies(self) -> None:
        for body in (b'', b'{', b'[]', b'"x"', b'\xff', b'[' * 100_000):
            request = self.request('POST', PATH)
            request.content_type = 'application/json'
            request.body = body
            answer = request.get_response(self.application)
            self.assert_error(answer, 400, 'badRequest', 'Malformed')

    def test_what_a_web_page_may_have_a_browser_send(self) -> None:
        for kind in ('text/plain', 'application/x-www-form-urlencoded', ''):
            request = self.request('POST', PATH)
            request.content_type = kind
            request.body = b'{"createImage": {"name": "x"}}'
            answer = request.get_response(self.application)
            self.assert_error(answer, 415, 'badMediaType', 'Content-Type')

    def test_a_large_body(self) -> None:
        answer = self.create(name='x' * 200_000)
        self.assert_error(answer, 413, 'overLimit', 'too large')
        self.assertIn('OpenStack-API-Version', answer.headers)

    def test_servers(self) -> None:
        for server in ('web', str(uuid.uuid4()), 'x%00y'):
            answer = self.call(
                'POST',
                f'/v2.1/servers/{server}/action',
                {'createImage': {'name': 'x'}},
            )
            self.assert_error(answer, 404, 'itemNotFound', 'be found')
