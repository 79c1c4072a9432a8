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

"""tempest's clients against the service: a judge that is not of Nova.

Their schemas of the answers were written from the API's reference.
"""

import pathlib
import subprocess
from typing import ClassVar

from tests.functional import api_base
from tests.functional import base
from tests.functional import content
from tests.lab import clients
from tests.lab import exhaustive

CALLS = pathlib.Path(__file__).with_name('tempest_calls.py')

#: Those of which tempest has a schema for servers, and the last.
USUAL = (1, 3, 9, 16, 19, 26, 45, 47, 54, 63, 71, 73, 75, 79, 89, 90)

MINORS = exhaustive.choose(range(1, 91), USUAL)


class TempestTest(api_base.ServiceTestCase):
    """One guest, and the embedded store."""

    BACKEND = 'eventlet'
    GUEST_GROUP = 'plain'
    OPTIONS: ClassVar[dict[str, dict[str, str]]] = content.PULL

    def test_each_answer_has_tempest_s_schema(self) -> None:
        guest = self.class_guest()
        found = base.Found.of(guest)
        self.start_service()
        done = subprocess.run(
            [
                *(clients.TEMPEST, CALLS, f'http://127.0.0.1:{self.port}'),
                *(guest.uuid, *(f'2.{minor}' for minor in MINORS)),
            ],
            capture_output=True,
            text=True,
            timeout=base.TIMEOUT,
        )
        self.assertEqual(0, done.returncode, done.stderr[-4000:])
        self.assert_as_found(guest, found)
        self.assert_nothing_left()
