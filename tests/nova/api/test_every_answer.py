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

"""Every answer of every unit test of the API, by Nova's own schemas.

The tests of ``tests/unit/api`` run once more, and what the application answers
in them is what Nova would answer in the same microversion: its errors have the
form of Nova's, its other answers pass Nova's schema.
"""

import importlib
import pkgutil
from typing import Any
import unittest

import fixtures
import webob

from nova_snap.api import deploy
from tests.nova.api import answers
from tests.unit import api
from tests.unit.api import base


class CheckedTestCase(base.ApiTestCase):
    """Fails when an answer is not as Nova's."""

    def setUp(self) -> None:
        made = deploy.application

        def checked(*arguments: Any, **options: Any) -> answers.Checked:
            application = answers.Checked(made(*arguments, **options))
            self.addCleanup(lambda: self.assertEqual([], application.failures))
            return application

        self.useFixture(
            fixtures.MonkeyPatch('nova_snap.api.deploy.application', checked)
        )
        super().setUp()


def _cases() -> dict[str, type[unittest.TestCase]]:
    """Return the cases of the unit tests, with this check, by new names."""
    found = {}
    for module in pkgutil.iter_modules(api.__path__, f'{api.__name__}.'):
        for name, case in vars(importlib.import_module(module.name)).items():
            if (
                isinstance(case, type)
                and issubclass(case, base.ApiTestCase)
                and case.__module__ == module.name
            ):
                new = f'{name}_{module.name.rpartition(".")[2]}'
                found[new] = type(
                    new, (CheckedTestCase, case), {'__module__': __name__}
                )
    return found


globals().update(_cases())


class CheckTest(base.ApiTestCase):
    """The check itself."""

    def failures(self, path: str, **answer: Any) -> list[str]:
        """Return what is wrong with an answer."""
        made = webob.Response(content_type='application/json', **answer)
        made.headers['OpenStack-API-Version'] = 'compute 2.84'
        checked = answers.Checked(made)
        webob.Request.blank(path).get_response(checked)
        self.assertEqual(1, checked.checked + len(checked.failures))
        return checked.failures

    def test_what_nova_would_answer(self) -> None:
        right = self.get('/v2.1/servers/detail', version='2.84').json
        self.assertEqual(
            [], self.failures('/v2.1/servers/detail', json_body=right)
        )
        wrong = {'servers': [{'id': 1}]}
        self.assertNotEqual(
            [], self.failures('/v2.1/servers/detail', json_body=wrong)
        )
        self.assertNotEqual(
            [], self.failures('/v2.1/servers/else/where', json_body=right)
        )

    def test_errors(self) -> None:
        right = {'itemNotFound': {'code': 404, 'message': 'It is gone.'}}
        wrong = {'itemNotFound': {'code': 400, 'message': 'It is gone.'}}
        for body, has_failed in ((right, False), (wrong, True)):
            failures = self.failures(
                '/v2.1/servers/x', json_body=body, status=404
            )
            self.assertEqual(has_failed, bool(failures), str(failures))
