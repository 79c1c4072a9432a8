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
"""Lists of servers: who sees which, and filters, order and pages."""

import dataclasses
import datetime
import time
from typing import Any
import uuid

from nova_snap import progress as progress_lib
from nova_snap.api import app
from nova_snap.api import context as context_lib
from nova_snap.api import name_pattern
from nova_snap.api import request as request_lib
from nova_snap.objects import instance_details
from nova_snap.objects import power_state
from tests.unit import base as unit_base
from tests.unit.api import base
from tests.unit.api import servers
from tests.unit.api import test_create_image

PowerState = power_state.PowerState

#: Takes Python's re longer than anybody waits.
CATASTROPHIC = '(a%2B)%2B%24'

OTHER = 'project-b'


def guest(
    number: int, name: str, project: str | None = None, **fields: Any
) -> instance_details.InstanceDetails:
    """Return a guest; its id begins with the number."""
    known = servers.PLAIN if project is None else servers.NOVAS
    instance = dataclasses.replace(
        known.instance,
        uuid=str(uuid.UUID(int=number << 96)),
        name=name,
        project_id=project,
    )
    return dataclasses.replace(known, instance=instance, **fields)


def day(number: int) -> datetime.datetime:
    """Return a day."""
    return datetime.datetime(2026, 5, number, tzinfo=datetime.UTC)


class ServersTestCase(base.ApiTestCase):
    """Three servers of the host's project, and one of another."""

    def setUp(self) -> None:
        super().setUp()
        self.driver.known = [
            guest(1, 'web', created_at=day(1), updated_at=day(9)),
            guest(
                2,
                'Web (2)',
                created_at=day(2),
                updated_at=day(2),
                power_state=PowerState.PAUSED,
            ),
            guest(
                3,
                'a' * 60 + 'b',
                created_at=day(3),
                updated_at=day(3),
                power_state=PowerState.SHUTDOWN,
            ),
            guest(4, 'mail', OTHER, created_at=day(4), updated_at=day(4)),
        ]

    def found(self, query: str = '', version: str = '2.90') -> list[int]:
        """Return the numbers of the servers that a query finds."""
        answer = self.get(f'/v2.1/servers?{query}', version=version)
        self.assertEqual(200, answer.status_int, answer.text)
        return [int(item['id'][:8], 16) for item in answer.json['servers']]

    def refused(self, query: str, message: str, status: int = 400) -> None:
        """Check that a query is refused."""
        answer = self.get(f'/v2.1/servers?{query}', version='2.90')
        name = {400: 'badRequest', 403: 'forbidden'}[status]
        self.assert_error(answer, status, name, message)


class EncodingTest(ServersTestCase):
    """Requests that are not UTF-8."""

    def test_query_and_path(self) -> None:
        self.refused('name=%ff', 'UTF-8')
        answer = self.get('/v2.1/servers/%ff')
        self.assert_error(answer, 400, 'badRequest', 'UTF-8')


class FilterTest(ServersTestCase):
    """Filters, as an administrator uses them."""

    def test_each_filter(self) -> None:
        second = guest(2, '').instance.uuid
        for query, expected in (
            ('', [4, 3, 2, 1]),
            ('name=web', [2, 1]),
            ('name=^web$', [1]),
            ('name=Web%20\\(2\\)', [2]),
            ('name=nothing', []),
            (f'uuid={second}', [2]),
            ('status=paused', [2]),
            ('status=ACTIVE', [4, 1]),
            ('status=PAUSED&status=SHUTOFF', [3, 2]),
            ('status=ERROR', []),
            ('deleted=False', [4, 3, 2, 1]),
            ('deleted=True', []),
            ('changes-since=2026-05-04T00:00:00Z', [4, 1]),
            ('changes-since=2026-05-04', [4, 1]),
            ('changes-before=2026-05-03T00:00:00Z', [3, 2]),
            (f'image={servers.IMAGE}', [4]),
            ('flavor=42', [4]),
            ('ip=^10\\.', [4]),
            ('ip6=fd00', [4]),
            ('vm_state=stopped', [3]),
            ('power_state=3', [2]),
            ('host=host', [4, 3, 2, 1]),
            ('host=other', []),
            ('tags=x', []),
            ('not-tags=x', [4, 3, 2, 1]),
            ('locked=True', []),
            ('locked=False', [4, 3, 2, 1]),
            ('key_name=mine', []),
            (f'all_tenants=1&project_id={OTHER}', [4]),
        ):
            self.assertEqual(expected, self.found(query), query)

    def test_what_is_no_filter(self) -> None:
        self.refused('name=[', "'[' is not a 'regex'")
        self.refused('name=(a)\\1', "is not a 'regex'")
        self.refused('changes-since=soon', "'soon' is not a 'date-time'")
        self.refused('status=COLD', 'Invalid status value')
        self.refused('unheard=of', "('unheard' was unexpected)")
        self.refused(
            'changes-since=2026-05-04&changes-before=2026-05-03',
            'must be less than or equal',
        )
        self.assertEqual([], self.found('status=COLD', '2.37'))
        self.assertEqual([4, 3, 2, 1], self.found('unheard=of', '2.74'))

    def test_patterns_that_would_hang_the_service(self) -> None:
        """They are answered in no time, or refused."""
        started = time.monotonic()
        self.assertEqual([3], self.found('name=a%2Bb'))
        self.assertEqual([], self.found(f'name={CATASTROPHIC}'))
        self.refused('name=(((a{999}){999}){999})', "is not a 'regex'")
        self.found('name=' + '((a|b)*)*' * 500)
        # Hours, with a matcher that tries each way to match.
        self.assertLess(time.monotonic() - started, unit_base.PATIENCE)

    def test_the_last_value_counts(self) -> None:
        """As in Nova; so nobody has thousands of patterns compiled."""
        self.assertEqual([4], self.found('name=web&name=mail'))
        self.assertEqual([3], self.found('vm_state=active&vm_state=stopped'))
        matcher, made = name_pattern.matcher, []
        self.patch(
            name_pattern,
            'matcher',
            lambda name, value: made.append(value) or matcher(name, value),
        )
        self.found('&'.join(f'name=.%7B500%7D{n}' for n in range(99)))
        self.assertEqual(['.{500}98'], made)


class OrderTest(ServersTestCase):
    """The order of servers, and pages of them."""

    def test_order(self) -> None:
        for query, expected in (
            ('sort_key=created_at&sort_dir=asc', [1, 2, 3, 4]),
            ('sort_key=updated_at', [1, 4, 3, 2]),
            ('sort_key=display_name&sort_dir=asc', [2, 3, 4, 1]),
            ('sort_key=vm_state&sort_key=uuid', [3, 2, 4, 1]),
            (
                'sort_key=vm_state&sort_key=uuid&sort_dir=desc&sort_dir=asc',
                [3, 2, 1, 4],
            ),
            ('sort_key=launched_at', [1, 2, 3, 4]),
        ):
            self.assertEqual(expected, self.found(query), query)
        self.refused('sort_key=colour', "'colour' is no key")
        self.refused('sort_dir=up', 'Unknown sort direction')

    def test_pages(self) -> None:
        """Following the links leads to all servers, once each."""
        for path in ('servers', 'servers/detail'):
            url, seen = f'/v2.1/{path}?limit=2&name=.', []
            for _page in range(3):
                answer = self.get(url, version='2.90').json
                seen += [item['id'] for item in answer['servers']]
                links = answer.get('servers_links')
                if links is None:
                    break
                self.assertEqual('next', links[0]['rel'])
                url = links[0]['href'].removeprefix('http://localhost')
                self.assertTrue(url.startswith(f'/v2.1/{path}?'), url)
            self.assertEqual(
                [guest(n, '').instance.uuid for n in (4, 3, 2, 1)], seen
            )

    def test_limits_and_markers(self) -> None:
        third = guest(3, '').instance.uuid
        self.assertEqual([], self.found('limit=0'))
        self.assertEqual([4], self.found('limit=1'))
        self.assertEqual([2, 1], self.found(f'marker={third}'))
        self.assertEqual([1], self.found(f'marker={third}&status=ACTIVE'))
        self.assertEqual([4, 3, 2, 1], self.found('limit=' + '9' * 99))
        for limit in ('-1', 'x', '1.5', '%C2%B2', ''):
            self.refused(f'limit={limit}', 'query parameters limit')
        self.refused('marker=x', 'marker [x] not found')


class ShowTest(ServersTestCase):
    """One server."""

    def test_server(self) -> None:
        known = guest(1, 'web').instance.uuid
        shown = self.get(f'/v2.1/servers/{known}', version='2.90').json
        self.assertEqual('web', shown['server']['name'])
        self.assertEqual(base.PROJECT, shown['server']['tenant_id'])

    def test_no_server(self) -> None:
        """Clients look for a name as an id first, and want 404."""
        for name in ('web', str(uuid.uuid4())):
            self.assert_error(
                self.get(f'/v2.1/servers/{name}'),
                404,
                'itemNotFound',
                f'Instance {name} could not be found.',
            )


class ActivityTest(test_create_image.CreateImageTestCase):
    """A server of which an image is made."""

    def test_task_state_and_progress(self) -> None:
        """The client that waits sees how far it is."""
        path = f'/v2.1/servers/{test_create_image.SERVER}'
        self.driver.known = [servers.PLAIN]
        self.driver.behave = self.hold
        before = self.get(path).json['server']
        self.assertIsNone(before['OS-EXT-STS:task_state'])
        self.create()
        self.assertTrue(self.begun.wait(unit_base.PATIENCE))
        running = self.accepted.of(test_create_image.SERVER)
        running.progress.report(progress_lib.Stage.UPLOADING, 30, 40)
        during = self.get(path).json['server']
        self.assertEqual(
            ('image_pending_upload', 75, 'ACTIVE'),
            (
                during['OS-EXT-STS:task_state'],
                during['progress'],
                during['status'],
            ),
        )
        self.shall_end.set()
        self.wait_for_end()
        after = self.get(path).json['server']
        self.assertIsNone(after['OS-EXT-STS:task_state'])
        self.assertEqual(0, after['progress'])


class ProjectTest(ServersTestCase):
    """A user of one project, and an administrator, with Keystone."""

    is_admin = False

    def authentication(self) -> app.Authenticate:
        def authenticate(
            _request: request_lib.Request,
        ) -> context_lib.Context:
            return context_lib.Context(
                'req-1',
                user_id='u',
                project_id=OTHER,
                roles=('admin',) if self.is_admin else ('reader',),
                is_admin=self.is_admin,
                access='what Keystone knows',
            )

        return authenticate

    def test_user_sees_the_own_project_only(self) -> None:
        self.assertEqual([4], self.found())
        self.assertEqual([4], self.found(f'project_id={base.PROJECT}'))
        self.refused('all_tenants=1', 'get_all_tenants', status=403)
        own, foreign = (guest(n, '').instance.uuid for n in (4, 1))
        self.assertEqual(200, self.get(f'/v2.1/servers/{own}').status_int)
        self.assert_error(
            self.get(f'/v2.1/servers/{foreign}'),
            404,
            'itemNotFound',
            f'Instance {foreign} could not be found.',
        )
        self.refused(f'marker={foreign}', 'not found')

    def test_user_sees_nothing_of_the_host(self) -> None:
        own = guest(4, '').instance.uuid
        shown = self.get(f'/v2.1/servers/{own}', version='2.89').json
        admins = [k for k in shown['server'] if k.startswith('OS-EXT-SRV-A')]
        self.assertEqual([], admins)
        self.assertNotIn('host_status', shown['server'])
        for path in ('/v2.1/os-hypervisors', '/v2.1/os-hypervisors/1'):
            self.assert_error(
                self.get(path), 403, 'forbidden', 'os-hypervisors'
            )

    def test_user_sees_flavors_of_own_servers(self) -> None:
        answer = self.get('/v2.1/flavors').json
        self.assertEqual(['42'], [f['id'] for f in answer['flavors']])
        self.assert_error(
            self.get('/v2.1/flavors/2-cpus-256-mib'),
            404,
            'itemNotFound',
            'Flavor 2-cpus-256-mib could not be found.',
        )

    def test_filters_that_only_administrators_have(self) -> None:
        """They are ignored, as in Nova."""
        self.assertEqual([4], self.found('host=other'))
        self.refused('status=DELETED', 'Only administrators', status=403)

    def test_limits_of_the_own_project(self) -> None:
        limits = self.get('/v2.1/limits').json['limits']['absolute']
        self.assertEqual(1, limits['totalInstancesUsed'])
        self.assertEqual(256, limits['totalRAMUsed'])

    def test_administrator_asks_for_all(self) -> None:
        self.is_admin = True
        self.assertEqual([4], self.found())
        self.assertEqual([4, 3, 2, 1], self.found('all_tenants=1'))
        foreign = guest(1, '').instance.uuid
        self.assertEqual(200, self.get(f'/v2.1/servers/{foreign}').status_int)

    def test_order_that_only_administrators_have(self) -> None:
        self.refused('sort_key=host', 'Only administrators', status=403)
        self.is_admin = True
        self.assertEqual([4], self.found('sort_key=host'))
