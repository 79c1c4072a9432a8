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

"""Which requests are repeated, how often, and what ends that."""

from collections.abc import Callable
from typing import Any

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap.clients import http_errors
from nova_snap.clients import retry
from tests.unit import base


class Service:
    """Answers a request with each of the errors, and then well."""

    def __init__(self, *statuses: int) -> None:
        self.asked = 0
        self._statuses = list(statuses)

    def request(self) -> str:
        """Be asked once more."""
        self.asked += 1
        if self._statuses:
            raise http_errors.HTTPError(self._statuses.pop(0), 'no')
        return 'well'


class RetryTest(base.TestCase):
    """Requests to a service that has its bad moments."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(retry, 'FIRST_PAUSE', 0.01)

    def ask(self, service: Service, tries: int = 3, **options: Any) -> str:
        """Make the request as often as it takes."""
        answer: str = retry.retrying('Glance', tries, **options)(
            service.request
        )
        return answer

    def failure(self, service: Service, **options: Any) -> int:
        """Return the status with which it fails in the end."""
        error = self.assertRaises(
            http_errors.HTTPError, self.ask, service, **options
        )
        status: int = error.status
        return status

    def test_transient_errors(self) -> None:
        service = Service(503, 503)
        self.assertEqual('well', self.ask(service))
        self.assertEqual(3, service.asked)
        self.assertIn('request to Glance failed (try 2)', self.log.output)

    def test_last_error_comes_out_as_it_is(self) -> None:
        service = Service(503, 500, 502)
        self.assertEqual(502, self.failure(service))
        self.assertEqual(3, service.asked)

    def test_other_errors_are_not_repeated(self) -> None:
        service = Service(409)
        self.assertEqual(409, self.failure(service))
        self.assertEqual(1, service.asked)

    def test_what_can_not_be_repeated(self) -> None:
        service = Service(503)
        never: Callable[[], bool] = lambda: False  # noqa: E731
        self.assertEqual(503, self.failure(service, can_repeat=never))
        self.assertEqual(1, service.asked)

    def test_cancelled_in_the_pause(self) -> None:
        self.patch(retry, 'FIRST_PAUSE', 60)
        self.patch(progress_lib, 'POLL_INTERVAL', 0.01)
        progress = progress_lib.Progress('web')
        service = Service(503)
        attempt = base.Attempt(lambda: self.ask(service, progress=progress))
        self.wait_until('it was asked', lambda: service.asked)
        progress.cancel('enough.')
        self.assertIsInstance(
            attempt.wait().error, exception.SnapshotCancelled
        )
        self.assertEqual(1, service.asked)
