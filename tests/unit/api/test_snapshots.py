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

from nova_snap import progress as progress_lib
from nova_snap.api import snapshots
from tests.unit import base as unit_base
from tests.unit.api import base
from tests.unit.api import test_create_image
from tests.unit.compute import base as compute_base

SERVER = compute_base.INSTANCE.uuid
PATH = f'/v2.1/servers/{SERVER}/snapshots'


class TestSnapshots(test_create_image.CreateImageTestCase):
    """Progress and cancellation."""

    def begin(self) -> str:
        """Begin a snapshot that is half done; return the image's ID."""
        self.driver.behave = self.half
        image_id: str = self.create().json['image_id']
        self.assertTrue(self.begun.wait(unit_base.PATIENCE))
        return image_id

    def half(self, request: compute_base.Request) -> None:
        """Report, and hold."""
        request.progress.report(progress_lib.Stage.COPYING, 500, 1000)
        self.hold(request)

    def test_none(self) -> None:
        self.assertEqual({'snapshots': []}, self.get(PATH).json)

    def test_progress(self) -> None:
        image_id = self.begin()
        (listed,) = self.get(PATH).json['snapshots']
        shown = self.get(f'{PATH}/{image_id}').json['snapshot']
        self.assertEqual(listed, shown)
        self.assertEqual(
            {
                'image_id': image_id,
                'server_id': SERVER,
                'task_state': 'image_pending_upload',
                'stage': 'copying',
                'bytes_done': 500,
                'bytes_total': 1000,
                'per_cent': 50,
                'bytes_per_second': None,
                'seconds_left': None,
            },
            shown,
        )

    def test_rate(self) -> None:
        snapshot = snapshots.Snapshot(compute_base.INSTANCE)
        report = snapshot.progress.report
        report(progress_lib.Stage.COPYING, 0, 1000)
        report(progress_lib.Stage.UPLOADING, 100, 1000)
        report(progress_lib.Stage.UPLOADING, 300, 1000)
        self.assertIsNone(snapshot.rate)
        snapshot.stage_began_at -= 10
        rate = snapshot.rate
        assert rate is not None
        self.assertAlmostEqual(20, rate, delta=1)

    def test_while_it_waits(self) -> None:
        with self.locks.snapshot_slot(progress_lib.Progress()):
            self.create()
            (listed,) = self.get(PATH).json['snapshots']
            self.assertEqual('image_snapshot_pending', listed['task_state'])
            self.assertIsNone(listed['stage'])

    def test_cancel(self) -> None:
        image_id = self.begin()
        answer = self.call('DELETE', f'{PATH}/{image_id}')
        self.assertEqual((202, b''), (answer.status_int, answer.body))
        self.wait_for_end()
        self.assert_nothing_is_left()
        self.assertIn('a user has cancelled it', self.log.output)

    def test_cancel_what_waits(self) -> None:
        with self.locks.snapshot_slot(progress_lib.Progress()):
            image_id = self.create().json['image_id']
            self.call('DELETE', f'{PATH}/{image_id}')
            self.wait_for_end()
        self.assert_nothing_is_left()

    def test_deleting_the_image_cancels(self) -> None:
        image_id = self.begin()
        self.images.delete(image_id)
        self.wait_for_end()
        self.assert_nothing_is_left()

    def test_unknown(self) -> None:
        self.begin()
        for method in ('GET', 'DELETE'):
            answer = self.call(method, f'{PATH}/{compute_base.BASE_ID}')
            self.assert_error(
                answer, 404, 'itemNotFound', compute_base.BASE_ID
            )
        self.assertEqual(1, len(list(self.accepted)))


class TestHealthcheck(base.ApiTestCase):
    """Whether the service answers."""

    def test_answers(self) -> None:
        answer = self.get('/healthcheck')
        self.assertEqual(200, answer.status_int)
        self.assertEqual('OK', answer.text)

    def test_is_stopping(self) -> None:
        self.services.snapshots.stop(0)
        self.assertEqual(503, self.get('/healthcheck').status_int)


class TestMany(base.ApiTestCase):
    """Many requests at once."""

    LIMIT = 0

    def test_one_is_accepted_and_the_others_are_told(self) -> None:
        shall_end = threading.Event()

        def hold(request: compute_base.Request) -> None:
            while not shall_end.wait(0.02):
                request.progress.check()

        self.driver.behave = hold
        answers: list[int] = []

        def ask() -> None:
            answer = self.call(
                'POST',
                f'/v2.1/servers/{SERVER}/action',
                {'createImage': {'name': 'x'}},
            )
            answers.append(answer.status_int)

        attempts = [unit_base.Attempt(ask) for _ in range(50)]
        for attempt in attempts:
            self.assertIsNone(attempt.wait().error)
        shall_end.set()
        self.wait_until(
            'the snapshot has ended',
            lambda: not list(self.services.snapshots),
        )
        self.assertEqual([202] + [409] * 49, sorted(answers))
        (image,) = self.images.list()
        self.assertEqual('active', image.status)
