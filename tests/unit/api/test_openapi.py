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

"""The OpenAPI description names what the service has, and nothing else."""

from typing import Any

import yaml

from nova_snap.api import routes
from nova_snap.api import server_filters
from nova_snap.api.handlers import server_actions
from nova_snap.api.schemas import power_actions
from nova_snap.api.schemas import rebuild
from nova_snap.api.schemas import server_actions as schemas
from tests.unit import base

FILE = base.REPOSITORY / 'doc' / 'source' / 'reference' / 'openapi.yaml'

#: The schema of the body of each action.
BODIES = {
    'createBackup': schemas.CREATE_BACKUP,
    'createImage': schemas.CREATE_IMAGE,
    **power_actions.SCHEMAS,
    'rebuild': rebuild.LATEST,
}


class TestDescription(base.TestCase):
    """``doc/source/reference/openapi.yaml``."""

    def setUp(self) -> None:
        super().setUp()
        self.found: dict[str, Any] = yaml.safe_load(FILE.read_text())

    def operations(self) -> list[tuple[str, str]]:
        """Return the methods and paths that are described."""
        return sorted(
            (method.upper(), path)
            for path, item in self.found['paths'].items()
            for method in item
            if method != 'parameters'
        )

    def test_every_route(self) -> None:
        tables = (
            ('', routes.PUBLIC),
            (routes.PREFIX, routes.PROTECTED),
            (routes.IMAGE_PREFIX, routes.IMAGES),
        )
        wanted = {
            (route.method, (prefix + route.path).rstrip('/') or '/')
            for prefix, table in tables
            for route in table
        }
        self.assertEqual(sorted(wanted), self.operations())

    def test_images_have_a_second_path(self) -> None:
        """The description says that, and does not describe them twice."""
        said = self.found['info']['description']
        self.assertIn(f'{routes.IMAGE_PREFIX}/v2', said)
        self.assertIn(f'{routes.PREFIX}/v2', said)
        for route in routes.IMAGES:
            paths = (routes.IMAGE_PREFIX, routes.PREFIX)
            first, second = (
                routes.protected(route.method, prefix + route.path)
                for prefix in paths
            )
            self.assertIsNotNone(first)
            self.assertEqual(first, second, route)

    def test_only_public_routes_need_no_identity(self) -> None:
        public = {route.path.rstrip('/') or '/' for route in routes.PUBLIC}
        for path, item in self.found['paths'].items():
            for method in item.keys() - {'parameters'}:
                self.assertEqual(
                    path in public, item[method].get('security') == [], path
                )

    def test_every_action_and_its_schema(self) -> None:
        self.assertEqual(sorted(server_actions.ACTIONS), sorted(BODIES))
        described = self.found['components']['schemas']
        action = self.found['paths']['/v2.1/servers/{server_id}/action']
        body = action['post']['requestBody']['content']['application/json']
        self.assertEqual(
            [f'#/components/schemas/{name}' for name in sorted(BODIES)],
            sorted(choice['$ref'] for choice in body['schema']['oneOf']),
        )
        for name, schema in BODIES.items():
            self.assertEqual(_of_ecma(schema), described[name], name)

    def test_every_filter_of_servers(self) -> None:
        wanted = {
            *server_filters.EXACT,
            *server_filters.PATTERNS,
            *server_filters.OTHERS,
        }
        for path in ('/v2.1/servers', '/v2.1/servers/detail'):
            parameters = self.found['paths'][path]['get']['parameters']
            self.assertEqual(
                sorted(wanted),
                sorted(parameter['name'] for parameter in parameters),
            )


def _of_ecma(schema: Any) -> Any:
    r"""Return a schema with the ends of its patterns as OpenAPI has them.

    ``\Z`` is the end in Python's patterns, where ``$`` lets a newline follow.
    """
    if isinstance(schema, dict):
        return {
            _of_ecma(key): _of_ecma(value) for key, value in schema.items()
        }
    if isinstance(schema, list):
        return [_of_ecma(value) for value in schema]
    return schema.replace(r'\Z', '$') if isinstance(schema, str) else schema
