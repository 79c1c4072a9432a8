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

"""``/metrics``: what is counted, and who may read it."""

from typing import Any

from prometheus_client import parser

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap.api import services as services_lib
from nova_snap.conf import api as api_conf
from tests.unit import base as unit_base
from tests.unit.api import base
from tests.unit.api import test_create_image
from tests.unit.compute import base as compute_base

PATH = '/metrics'

RUNNING = 'nova_snap_snapshots_running'
WAITING = 'nova_snap_snapshots_waiting'
ENDED = 'nova_snap_snapshots_total'
FROZEN = 'nova_snap_guest_frozen_seconds'
DURATION = 'nova_snap_snapshot_duration_seconds'
WAITED = 'nova_snap_snapshot_wait_seconds'


class TestMetrics(test_create_image.CreateImageTestCase):
    """What is measured of snapshots."""

    def value(self, name: str, **labels: str) -> float:
        """Return a number that Prometheus would read."""
        return value(self.get(PATH).text, name, **labels)

    def ended(self) -> dict[str, float]:
        """Return how the snapshots have ended."""
        return {
            result: self.value(ENDED, method='pull', result=result)
            for result in ('done', 'failed', 'cancelled')
        }

    def test_before_the_first(self) -> None:
        for method in ('mirror', 'pull', 'cold', 'rbd_direct', 'volumes'):
            self.assertEqual(0, self.value(RUNNING, method=method))
            self.assertEqual(0, self.value(WAITING, method=method))
            self.assertEqual(
                0, self.value(ENDED, method=method, result='done')
            )

    def test_done(self) -> None:
        def freeze(request: compute_base.Request) -> None:
            request.progress.measured.add_frozen(0.25)

        self.driver.behave = freeze
        self.create()
        self.wait_for_end()
        self.assertEqual(
            {'done': 1, 'failed': 0, 'cancelled': 0}, self.ended()
        )
        sent = self.value('nova_snap_image_bytes_total', method='pull')
        self.assertEqual(len(compute_base.DATA), sent)
        self.assertEqual(0.25, self.value(f'{FROZEN}_sum', method='pull'))
        self.assertEqual(1, self.value(f'{DURATION}_count', method='pull'))
        self.assertEqual(1, self.value(f'{WAITED}_count'))
        self.assertIn('by pull, 4000 bytes sent', self.log.output)

    def test_sets_are_counted_whole(self) -> None:
        self.driver.further = ('vdb', 'vdc')
        self.create()
        self.wait_for_end()
        sent = self.value('nova_snap_image_bytes_total', method='pull')
        wanted = [
            compute_base.DATA,
            *map(compute_base.FURTHER.get, ('vdb', 'vdc')),
        ]
        self.assertEqual(sum(len(data or b'') for data in wanted), sent)

    def test_failed(self) -> None:
        def fail(_request: compute_base.Request) -> None:
            raise exception.SnapshotFailed('broken')

        self.driver.behave = fail
        self.create()
        self.wait_for_end()
        self.assertEqual(
            {'done': 0, 'failed': 1, 'cancelled': 0}, self.ended()
        )
        self.assertEqual(0, self.value(f'{FROZEN}_count', method='pull'))
        self.assertEqual(0, self.value(f'{DURATION}_count', method='pull'))

    def test_cancelled(self) -> None:
        self.driver.behave = self.hold
        image_id = self.create().json['image_id']
        self.images.delete(image_id)
        self.wait_for_end()
        self.assertEqual(
            {'done': 0, 'failed': 0, 'cancelled': 1}, self.ended()
        )

    def test_refused_requests_are_none(self) -> None:
        self.driver.plan_error = exception.UnsupportedGuest(
            server=compute_base.INSTANCE.uuid, reason='it has no disk.'
        )
        self.assertEqual(400, self.create().status_int)
        self.assertEqual(
            {'done': 0, 'failed': 0, 'cancelled': 0}, self.ended()
        )

    def test_running_and_waiting(self) -> None:
        self.driver.behave = self.hold
        with self.locks.snapshot_slot(progress_lib.Progress()):
            self.create()
            self.assertEqual(1, self.value(WAITING, method='pull'))
            self.assertEqual(0, self.value(RUNNING, method='pull'))
        self.assertTrue(self.begun.wait(unit_base.PATIENCE))
        self.assertEqual(0, self.value(WAITING, method='pull'))
        self.assertEqual(1, self.value(RUNNING, method='pull'))

    def test_nothing_is_named(self) -> None:
        self.driver.behave = self.hold
        image_id = self.create('a-name').json['image_id']
        said = self.get(PATH).text
        for name in (compute_base.INSTANCE.uuid, image_id, 'web', 'a-name'):
            self.assertNotIn(name, said)


class TestAccess(base.ApiTestCase):
    """Who may read it."""

    def ask(self, peer: str = '127.0.0.1', **headers: str) -> Any:
        """Ask as a program of any user, without an identity."""
        request = self.request('GET', PATH)
        request.headers.update(headers)
        request.environ.update(REMOTE_ADDR=peer, REMOTE_PORT='1')
        return request.get_response(self.application)

    def allow(self, who: str) -> None:
        """Set ``[api] metrics``."""
        options = services_lib.Options(base.PROJECT, 'host', who)
        object.__setattr__(self.services, 'options', options)

    def test_local(self) -> None:
        answer = self.ask()
        self.assertEqual(200, answer.status_int)
        self.assertTrue(
            answer.headers['Content-Type'].startswith('text/plain; version=')
        )
        self.assertEqual(200, self.ask('').status_int)
        self.assertEqual(403, self.ask('192.0.2.1').status_int)
        self.assertEqual(403, self.ask(Host='evil.example').status_int)
        through = self.ask(**{'X-Forwarded-For': '192.0.2.1'})
        self.assert_error(through, 403, 'forbidden', '[api] metrics')

    def test_all(self) -> None:
        self.allow(api_conf.METRICS_ALL)
        self.assertEqual(200, self.ask('192.0.2.1').status_int)

    def test_off(self) -> None:
        self.allow(api_conf.METRICS_OFF)
        self.assertEqual(404, self.ask().status_int)


def value(text: str, name: str, **labels: str) -> float:
    """Return a number in Prometheus' format, read by its own parser."""
    (found,) = [
        sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    return found
