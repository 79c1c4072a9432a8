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

import sqlite3
import threading
from typing import Any

from alembic import autogenerate
from alembic.runtime import migration

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap import waiting
from nova_snap.api import actions as actions_lib
from nova_snap.api import context as context_lib
from nova_snap.api import recovery
from nova_snap.api.db import api as db_api
from nova_snap.api.db import models
from nova_snap.image import api as image_api
from nova_snap.objects import power_state
from tests.unit import base as unit_base
from tests.unit import journals
from tests.unit.api import base
from tests.unit.api import test_create_image
from tests.unit.compute import base as compute_base

SERVER = compute_base.INSTANCE.uuid
OTHER_SERVER = '5c1b8a30-0000-4000-8000-00000000000d'
PATH = f'/v2.1/servers/{SERVER}/os-instance-actions'

TIME = r'^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}$'


class TestTogether(test_create_image.CreateImageTestCase):
    """Several threads that write at once."""

    def test_each_is_written(self) -> None:
        context = context_lib.Context('req', 'me', base.PROJECT)

        def write() -> None:
            for _ in range(20):
                action = self.services.actions.begin(
                    context, SERVER, 'createImage', 'an image'
                )
                self.services.actions.begin_event(action, 'step')
                self.services.actions.end(action, 'step', None)

        writers = [unit_base.Attempt(write) for _ in range(4)]
        self.assertEqual([None] * 4, [w.wait().error for w in writers])
        self.assertEqual(80, len(self.services.actions.list(SERVER)))


class TestShapes(test_create_image.CreateImageTestCase):
    """What each microversion shows of an action."""

    def take(self) -> str:
        """Take an image; return the ID of the request."""
        request_id: str = self.create().headers['x-compute-request-id']
        self.wait_for_end()
        return request_id

    def shown(self, request_id: str, version: str) -> Any:
        """Return an action with its events."""
        return self.get(f'{PATH}/{request_id}', version=version).json[
            'instanceAction'
        ]

    def test_list(self) -> None:
        first, second = self.take(), self.take()
        found = self.get(PATH).json['instanceActions']
        self.assertEqual([second, first], [a['request_id'] for a in found])
        for action in found:
            self.assertEqual('createImage', action['action'])
            self.assertEqual(SERVER, action['instance_uuid'])
            self.assertEqual(base.PROJECT, action['project_id'])
            self.assertEqual('admin', action['user_id'])
            self.assertIsNone(action['message'])
            self.assertRegex(action['start_time'], TIME)
            self.assertNotIn('updated_at', action)

    def test_list_by_a_uuid_in_upper_case(self) -> None:
        self.take()
        upper = PATH.replace(SERVER, SERVER.upper())
        self.assertEqual(self.get(PATH).json, self.get(upper).json)

    def test_list_since_2_58(self) -> None:
        self.take()
        document = self.get(PATH, version='2.58').json
        self.assertRegex(document['instanceActions'][0]['updated_at'], TIME)
        self.assertEqual(['instanceActions'], list(document))

    def test_event(self) -> None:
        request_id = self.take()
        (event,) = self.shown(request_id, '2.1')['events']
        self.assertEqual('compute_snapshot_instance', event['event'])
        self.assertEqual('Success', event['result'])
        self.assertRegex(event['finish_time'], TIME)
        self.assertEqual(
            {'event', 'result', 'start_time', 'finish_time', 'traceback'},
            set(event),
        )
        (event,) = self.shown(request_id, '2.62')['events']
        self.assertRegex(event['hostId'], '^[0-9a-f]{56}$')
        self.assertEqual('host', event['host'])
        self.assertNotIn('details', event)
        (event,) = self.shown(request_id, '2.84')['events']
        self.assertIsNone(event['details'])

    def test_a_failure_says_why(self) -> None:
        def fail(_request: compute_base.Request) -> None:
            raise exception.SnapshotFailed('It does not work.')

        self.driver.behave = fail
        shown = self.shown(self.take(), '2.84')
        self.assertEqual('Error', shown['message'])
        self.assertEqual('Error', shown['events'][0]['result'])
        self.assertEqual('It does not work.', shown['events'][0]['details'])

    def test_a_failure_without_words_says_its_kind(self) -> None:
        def fail(_request: compute_base.Request) -> None:
            raise AssertionError

        self.driver.behave = fail
        (event,) = self.shown(self.take(), '2.84')['events']
        self.assertEqual('Error', event['result'])
        self.assertEqual('AssertionError', event['details'])

    def test_while_it_waits_it_has_no_event(self) -> None:
        with self.locks.snapshot_slot(progress_lib.Progress()):
            answer = self.create()
            request_id = answer.headers['x-compute-request-id']
            self.assertEqual([], self.shown(request_id, '2.51')['events'])
        self.wait_for_end()

    def test_what_is_refused_is_no_action(self) -> None:
        self.driver.plan_error = exception.UnsupportedGuest(
            server=SERVER, reason='it has no disk.'
        )
        self.create()
        self.assertEqual([], self.get(PATH).json['instanceActions'])

    def test_unknown(self) -> None:
        self.assert_error(
            self.get(f'{PATH}/req-x'), 404, 'itemNotFound', 'req-x'
        )
        self.assert_error(
            self.get('/v2.1/servers/web/os-instance-actions'),
            *(404, 'itemNotFound', 'web'),
        )


class TestPages(base.ApiTestCase):
    """Filters and pages of the list."""

    def setUp(self) -> None:
        super().setUp()
        for number in range(3):
            self.actions.begin(
                self.context(f'req-{number}'), SERVER, 'createImage', 'x'
            )

    def ids(self, query: str, version: str = '2.66') -> list[str]:
        """Return the request IDs on a page."""
        document = self.get(f'{PATH}?{query}', version=version).json
        return [a['request_id'] for a in document['instanceActions']]

    def test_pages(self) -> None:
        document = self.get(f'{PATH}?limit=2', version='2.58').json
        found = [a['request_id'] for a in document['instanceActions']]
        self.assertEqual(['req-2', 'req-1'], found)
        (link,) = document['links']
        self.assertEqual('next', link['rel'])
        path = link['href'].removeprefix('http://localhost')
        document = self.get(path, version='2.58').json
        found = [a['request_id'] for a in document['instanceActions']]
        self.assertEqual(['req-0'], found)
        self.assertNotIn('links', document)

    def test_before_2_58_there_are_none(self) -> None:
        self.assertEqual(3, len(self.ids('limit=1', '2.57')))

    def test_times(self) -> None:
        middle = self.actions.get(SERVER, 'req-1').updated_at.isoformat()
        self.assertEqual(
            ['req-2', 'req-1'], self.ids(f'changes-since={middle}')
        )
        self.assertEqual(
            ['req-1', 'req-0'], self.ids(f'changes-before={middle}')
        )

    def test_what_is_no_filter(self) -> None:
        for query, version in (
            ('limit=-1', '2.58'),
            ('limit=x', '2.58'),
            ('limit=1&limit=2', '2.58'),
            ('marker=req-9', '2.58'),
            ('changes-since=x', '2.58'),
            ('changes-since=0001-01-01T00:00:00%2B01:00', '2.58'),
            ('changes-before=2026-01-01', '2.58'),
            ('changes-since=2026-01-02&changes-before=2026-01-01', '2.66'),
        ):
            answer = self.get(f'{PATH}?{query}', version=version)
            self.assertEqual(400, answer.status_int, query)


class TestDatabase(base.ApiTestCase):
    """The file, and what a later process finds in it."""

    def test_the_migrations_make_the_tables(self) -> None:
        with self.database.writing() as session:
            context = migration.MigrationContext.configure(
                session.connection()
            )
            self.assertEqual(
                [],
                autogenerate.compare_metadata(context, models.Base.metadata),
            )

    def test_is_for_its_owner_only(self) -> None:
        mode = self.database_path.stat().st_mode
        self.assertEqual(0o600, mode & 0o777)

    def test_is_kept(self) -> None:
        self.actions.begin(self.context('req-1'), SERVER, 'createImage', 'x')
        later = actions_lib.Actions(
            db_api.Database(self.database_path), 'host'
        )
        (found,) = later.list(SERVER)
        self.assertEqual('req-1', found.request_id)

    def test_old_actions_are_forgotten(self) -> None:
        number = self.actions.begin(
            self.context('req-1'), SERVER, 'createImage', 'x'
        )
        self.actions.end(number, 'compute_snapshot_instance', None)
        self.actions.forget_old()
        self.assertEqual(1, len(self.actions.list(SERVER)))
        with self.database.writing() as session:
            old = session.get_one(models.Action, number)
            old.updated_at -= actions_lib.KEPT
        self.actions.forget_old()
        self.assertEqual([], self.actions.list(SERVER))


class TestRecovery(base.ApiTestCase):
    """What becomes of actions that a killed process leaves."""

    def recovery(self) -> recovery.Recovery:
        """Return the recovery of the next process."""
        return recovery.Recovery(
            self.manager, self.images, self.actions, self.power.vm_state
        )

    def recover(self) -> bool:
        """Recover as the next process does."""
        return self.recovery().attempt()

    def left(self, image_id: str) -> Any:
        """Leave an action behind; return a function that shows its event."""
        self.actions.begin(
            self.context('req-1'), SERVER, 'createImage', image_id
        )

        def event() -> models.Event:
            found = self.actions.get(SERVER, 'req-1')
            assert found is not None
            (event,) = found.events
            return event

        return event

    def test_an_interrupted_one_has_failed(self) -> None:
        record = self.leave_behind()
        event = self.left(record.id)
        self.assertTrue(self.recover())
        self.assertEqual('Error', event().result)
        self.assertIn('service ended', event().details)
        self.assert_nothing_is_left()

    def test_an_active_image_is_a_success(self) -> None:
        event = self.left(self.snapshot().id)
        self.assertTrue(self.recover())
        self.assertEqual('Success', event().result)

    def test_a_record_of_which_the_journal_knows_nothing_goes(self) -> None:
        record = self.images.create(
            image_api.Image(
                id=compute_base.BASE_ID, name='half', status='queued'
            )
        )
        event = self.left(record.id)
        self.assertTrue(self.recover())
        self.assertEqual('Error', event().result)
        self.assert_nothing_is_left()

    def test_without_the_image_service_it_is_tried_again(self) -> None:
        event = self.left(self.snapshot().id)
        found = self.recovery()
        get = self.images.get

        def fail(image_id: str) -> image_api.Image:
            raise exception.ImageServiceUnavailable(
                endpoint='x', reason='it is not there'
            )

        self.images.get = fail  # type: ignore[method-assign]
        self.assertFalse(found.attempt())
        self.images.get = get  # type: ignore[method-assign]
        # One that has begun meanwhile is nothing of an earlier process.
        self.actions.begin(self.context('req-2'), SERVER, 'createImage', 'y')
        self.assertTrue(found.attempt())
        self.assertEqual('Success', event().result)
        running = self.actions.get(SERVER, 'req-2')
        assert running is not None
        self.assertEqual([], running.events)

    def test_no_success_before_the_image_is_verified(self) -> None:
        """A step of the journal may still delete it."""
        event = self.left(self.snapshot().id)
        journals.leave(
            self.journal_directory, SERVER, 'web', compute_base.Start()
        )

        def fail(_data: Any) -> None:
            raise exception.SnapshotFailed('It can not be known now.')

        self.driver.undo = fail
        found = self.recovery()
        self.assertFalse(found.attempt())
        self.assertRaises(ValueError, event)  # none yet
        self.driver.undo = lambda data: None
        self.assertTrue(found.attempt())
        self.assertEqual('Success', event().result)

    def test_guests_do_not_wait_for_the_image_service(self) -> None:
        """Nor does anything else hold their locks meanwhile."""
        undone: list[Any] = []
        locked: list[str] = []
        self.driver.undo = undone.append
        record = self.leave_behind()

        def fail(image_id: str) -> image_api.Image:
            try:
                with self.locks.instance(SERVER):
                    pass
            except exception.SnapshotInProgress:
                locked.append(image_id)
            raise exception.ImageServiceUnavailable(
                endpoint='x', reason='it is not there'
            )

        found, get = self.recovery(), self.images.get
        self.images.get = fail  # type: ignore[method-assign]
        self.assertFalse(found.attempt())
        self.assertEqual(1, len(undone))
        self.assertEqual([], locked)
        self.images.get = get  # type: ignore[method-assign]
        self.assertEqual('queued', self.images.get(record.id).status)
        self.assertTrue(found.attempt())
        self.assert_nothing_is_left()

    def test_another_server_keeps_no_success_back(self) -> None:
        event = self.left(self.snapshot().id)
        journals.leave(
            self.journal_directory, OTHER_SERVER, 'db', compute_base.Start()
        )

        def fail(_data: Any) -> None:
            raise exception.SnapshotFailed('It can not be known now.')

        self.driver.undo = fail
        self.assertFalse(self.recover())
        self.assertEqual('Success', event().result)

    def test_the_start_waits_for_no_slow_guest(self) -> None:
        self.patch(recovery, 'PATIENCE', 0.05)
        go_on, ended = threading.Event(), threading.Event()
        self.addCleanup(go_on.set)
        journals.leave(
            self.journal_directory, SERVER, 'web', compute_base.Start()
        )

        self.driver.undo = lambda _data: go_on.wait()
        found = self.recovery()
        attempt = found.attempt

        def whole() -> bool:
            try:
                return attempt()
            finally:
                ended.set()

        # The next test has the same guest, so wait for more than the step.
        found.attempt = whole  # type: ignore[method-assign]
        found.start()
        self.assertFalse(ended.is_set())
        go_on.set()
        self.assertTrue(ended.wait(unit_base.PATIENCE))

    def test_an_unexpected_error_ends_no_recovery(self) -> None:
        self.patch(recovery, 'FIRST_PAUSE', 0.05)
        event = self.left(self.snapshot().id)
        found = self.recovery()
        attempt = found.attempt

        def fail() -> bool:
            found.attempt = attempt  # type: ignore[method-assign]
            raise RuntimeError('unexpected')

        found.attempt = fail  # type: ignore[method-assign]
        found.start()
        self.wait_until('it is repeated', lambda: bool(self.results()))
        self.assertEqual('Success', event().result)
        self.assertIn('unexpected', self.log.output)

    def results(self) -> list[str | None]:
        """Return the results of the actions."""
        found = self.actions.list(SERVER)
        return [event.result for a in found for event in a.events]

    def test_an_action_of_another_version(self) -> None:
        for image_id in ('', self.snapshot().id):
            number = self.actions.begin(
                self.context('r'), SERVER, 'unheard-of', image_id
            )
            self.actions.begin_event(number, 'unheard-of')
            self.assertTrue(self.recover())
            self.assertEqual(
                'Error' if not image_id else 'Success', self.results()[0]
            )

    def test_a_server_that_shuts_down_may_still_do_so(self) -> None:
        number = self.actions.begin(self.context('r'), SERVER, 'stop')
        self.actions.begin_event(number, 'compute_stop_instance')
        found = self.recovery()
        self.driver.state = (power_state.PowerState.RUNNING, False)
        self.assertFalse(found.attempt())
        self.assertEqual([None], self.results())
        self.driver.state = (power_state.PowerState.SHUTDOWN, False)
        self.assertTrue(found.attempt())
        self.assertEqual(['Success'], self.results())

    def test_pauses_grow(self) -> None:
        pauses = waiting.pauses(recovery.FIRST_PAUSE, recovery.LONGEST_PAUSE)
        found = [next(pauses) for _ in range(2000)]
        self.assertEqual([30, 60, 120], found[:3])
        self.assertEqual(3600, found[-1])

    def test_a_power_action_ends_by_the_state_of_the_server(self) -> None:
        for action, state, result in (
            ('pause', power_state.PowerState.PAUSED, 'Success'),
            ('pause', power_state.PowerState.RUNNING, 'Error'),
            ('stop', power_state.PowerState.SHUTDOWN, 'Success'),
            ('reboot', power_state.PowerState.RUNNING, 'Error'),
        ):
            self.driver.state = (state, False)
            number = self.actions.begin(self.context('r'), SERVER, action)
            self.actions.begin_event(number, f'compute_{action}_instance')
            self.assertTrue(self.recover())
            (event,) = self.actions.list(SERVER)[0].events
            self.assertEqual(result, event.result, action)
            if result == 'Error':
                self.assertIn('service ended', event.details or '')


class TestUnwritten(test_create_image.CreateImageTestCase):
    """A database that can't be written for a while."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(actions_lib, 'FIRST_PAUSE', 0.05)
        self.patch(actions_lib, 'LONGEST_PAUSE', 0.05)

    def results(self) -> list[str | None]:
        """Return the results of the actions, the latest first."""
        found = self.services.actions.list(SERVER)
        return [event.result for a in found for event in a.events]

    def test_the_end_is_written_later(self) -> None:
        self.driver.behave = self.hold
        self.create()
        self.assertTrue(self.begun.wait(unit_base.PATIENCE))
        other = sqlite3.connect(self.database_path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute('BEGIN IMMEDIATE')
        self.shall_end.set()
        self.wait_for_end()
        self.assertIn('Cannot write how action', self.log.output)
        self.assertEqual([None], self.results())
        other.execute('ROLLBACK')
        self.wait_until(
            'the end is written', lambda: self.results() == ['Success']
        )

    def test_an_image_is_made_though_its_beginning_is_not_noted(self) -> None:
        with self.locks.snapshot_slot(progress_lib.Progress()):
            image_id = self.create().json['image_id']
            other = sqlite3.connect(self.database_path, isolation_level=None)
            self.addCleanup(other.close)
            other.execute('BEGIN IMMEDIATE')
        self.wait_until(
            'that is logged', lambda: 'has begun' in self.log.output
        )
        other.execute('ROLLBACK')
        self.wait_until(
            'the end is written', lambda: self.results() == ['Success']
        )
        self.assertEqual('active', self.images.get(image_id).status)
