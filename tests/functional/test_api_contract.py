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

"""The service answers as its OpenAPI description says, whatever is asked.

schemathesis makes requests of the description, right and wrong ones, sends
them to the service with a real guest, and compares the answers with the
description.  A short run, always with the same requests, is made each time;
one of minutes, with others each time, before a release.
"""

import pathlib
import subprocess
import sys
from typing import Any
from typing import ClassVar
import uuid

import yaml

from tests.functional import api_base
from tests.functional import base
from tests.functional import content
from tests.lab import exhaustive

ROOT = pathlib.Path(__file__).parents[2]

DESCRIPTION = ROOT / 'doc' / 'source' / 'reference' / 'openapi.yaml'

SETTINGS = ROOT / 'tests' / 'functional' / 'schemathesis.toml'

RUNS = {
    'short': (
        *('--phases', 'fuzzing,stateful', '--max-examples', '3'),
        '--generation-deterministic',
    ),
    'long': (
        *('--max-time', '240', '--continue-on-failure'),
        *('--generation-database', 'none'),
    ),
}

CHOSEN = exhaustive.choose(RUNS, usual=('short',))


class TestContract(api_base.ServiceTestCase):
    """With native threads."""

    GUEST_GROUP = 'plain'

    #: Images are made at once, and are small.
    OPTIONS: ClassVar[dict[str, dict[str, str]]] = content.PULL

    def test_every_answer_is_described(self) -> None:
        guest = self.class_guest()
        found = base.Found.of(guest)
        # A line of each request would fill the pipe that nobody reads.
        log = {'log_file': str(self.state_path / 'api.log')}
        service = self.start_service(DEFAULT=log)
        description = self.description(guest.uuid)
        for run in CHOSEN:
            done = self.check(description, *RUNS[run])
            self.addDetailUniqueName(run, base.text(done.stdout + done.stderr))
            self.assertEqual(0, done.returncode, done.stdout[-8000:])
        path = f'/v2.1/servers/{guest.uuid}/snapshots'
        self.wait_until(
            service,
            'no snapshot runs any more',
            lambda: not self.get(path)[1]['snapshots'],
        )
        self.assert_as_found(guest, found)
        self.assert_nothing_left()

    def description(self, server_id: str) -> pathlib.Path:
        """Write the description with a server that exists; return its file.

        Nobody would find it out by chance.  Of the actions only those are left
        that make images: others would leave the guest in another state, and
        their answers have no body, which OpenAPI can't say of a part.
        """
        document: dict[str, Any] = yaml.safe_load(DESCRIPTION.read_text())
        parameters = document['components']['parameters']
        server = parameters['ServerId']
        server['schema'] = {'enum': [server_id, str(uuid.uuid4()), 'a-name']}
        action = document['paths']['/v2.1/servers/{server_id}/action']['post']
        body = action['requestBody']['content']['application/json']['schema']
        body['oneOf'] = [
            choice for choice in body['oneOf'] if '/create' in choice['$ref']
        ]
        path = self.state_path / 'openapi.yaml'
        path.write_text(yaml.safe_dump(document))
        return path

    def check(
        self, description: pathlib.Path, *options: str
    ) -> 'subprocess.CompletedProcess[str]':
        """Let schemathesis look for answers that are not described."""
        return subprocess.run(
            [
                str(pathlib.Path(sys.executable).with_name('schemathesis')),
                *('--config-file', str(SETTINGS)),
                *('run', str(description)),
                *('--url', f'http://127.0.0.1:{self.port}'),
                '--no-color',
                *options,
            ],
            cwd=self.state_path,
            env=base.environment(
                SCHEMATHESIS_HOOKS='tests.functional.contract_hooks',
                PYTHONPATH=str(ROOT),
            ),
            capture_output=True,
            text=True,
            check=False,
        )


@exhaustive.usually()
class TestContractEventlet(TestContract):
    """With eventlet."""

    BACKEND = 'eventlet'
