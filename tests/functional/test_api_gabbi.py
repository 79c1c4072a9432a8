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

"""The API by examples: ``gabbits/*.yaml``, against the service with a guest.

Open one of those files to read how a call is made and what it answers; each
is one story, whose requests follow each other.
"""

import pathlib
from typing import Any
from typing import ClassVar
import unittest
import warnings

import fixtures
from gabbi import handlers
from gabbi import suitemaker
import yaml

from nova_snap.api import request
from tests.functional import api_base
from tests.functional import base
from tests.functional import content
from tests.lab import exhaustive

FOLDER = pathlib.Path(__file__).parent / 'gabbits'


class TestExamples(api_base.ServiceTestCase):
    """With native threads."""

    GUEST_GROUP = 'plain'

    #: So that the size of what is sent is known from the start.
    OPTIONS: ClassVar[dict[str, dict[str, str]]] = content.PULL

    #: Slow enough to be looked at, and to be cancelled.
    SLOW: ClassVar[dict[str, str]] = {
        **content.PULL['snapshot'],
        'bandwidth_limit_mb': '1',
        'compression': 'off',
    }

    def setUp(self) -> None:
        super().setUp()
        self.guest = self.class_guest()
        self.found = base.Found.of(self.guest)

    def test_usual(self) -> None:
        # What the second finds is what the others have not begun.
        self.check('versions', 'errors', 'backups', 'images')

    def test_slow(self) -> None:
        self.check('progress', snapshot=self.SLOW)

    def check(self, *names: str, **sections: dict[str, str]) -> None:
        """Run the requests of files, and check the guest afterwards."""
        self.start_service(**sections)
        for variable, value in {
            'SERVER': self.guest.uuid,
            'TOO_LONG': 'x' * (request.MAX_BODY + 1),
        }.items():
            self.useFixture(fixtures.EnvironmentVariable(variable, value))
        for name in names:
            result = unittest.TestResult()
            self.suite(name).run(result)
            for test, trace in (*result.failures, *result.errors):
                self.addDetailUniqueName(str(test), base.text(trace))
            self.assertTrue(result.wasSuccessful(), (name, result))
            self.assertGreater(result.testsRun, 0)
        self.assert_as_found(self.guest, self.found)
        self.assert_nothing_left()

    def suite(self, name: str) -> unittest.TestSuite:
        """Return the tests of a file."""
        document: dict[str, Any] = yaml.safe_load(
            (FOLDER / f'{name}.yaml').read_text()
        )
        with warnings.catch_warnings():
            # gabbi's own, about the names of tests.
            warnings.simplefilter('ignore')
            found: unittest.TestSuite = suitemaker.test_suite_from_dict(
                unittest.defaultTestLoader,
                name,
                document,
                str(FOLDER),
                '127.0.0.1',
                self.port,
                None,
                None,
                handlers=[handler() for handler in handlers.RESPONSE_HANDLERS],
            )
        return found


@exhaustive.usually()
class TestExamplesEventlet(TestExamples):
    """With eventlet."""

    BACKEND = 'eventlet'
