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


"""Rebuilds by the service, as its clients ask for them."""

from typing import ClassVar
import unittest

import fixtures

from tests.functional import api_base
from tests.functional import base
from tests.functional import test_api_gabbi
from tests.functional import test_rebuild
from tests.lab import clients
from tests.lab import command
from tests.lab import disk
from tests.lab import exhaustive
from tests.lab import guest as guest_lib


class ApiRebuildTestCase(
    test_rebuild.RebuildTestCase, api_base.ServiceTestCase
):
    """An image with a marker, and the service."""

    OPTIONS: ClassVar[dict[str, dict[str, str]]] = {
        'DEFAULT': {'shutdown_timeout': '0'}
    }

    def setUp(self) -> None:
        super().setUp()
        self.golden = self.image()


class TestExamples(ApiRebuildTestCase):
    """With native threads."""

    def test_requests(self) -> None:
        guest = self.own_guest()
        self.start_service()
        overlay = self.directory() / 'overlay'
        command.run(
            *('qemu-img', 'create', '-q', '-f', 'qcow2'),
            *('-b', '/etc/passwd', '-F', 'raw', '-u', overlay, '64M'),
        )
        for name, value in (
            ('SERVER', guest.uuid),
            ('IMAGE', self.golden),
            ('UNSAFE', self.stored(overlay)),
        ):
            self.useFixture(fixtures.EnvironmentVariable(name, value))
        result = unittest.TestResult()
        test_api_gabbi.TestExamples.suite(self, 'rebuild').run(result)
        for test, trace in (*result.failures, *result.errors):
            self.addDetailUniqueName(str(test), base.text(trace))
        self.assertTrue(result.wasSuccessful(), result)
        self.assertGreater(result.testsRun, 0)
        new = self.disks_of(guest)['vda']
        self.assert_has(guest, new, 'running')
        guest.wait_for(
            lambda: 'MARKER of-the-image' in guest.console(),
            'marker',
            guest_lib.BOOT_TIMEOUT,
        )
        # One generation is kept, for whoever has the host.
        old = guest.spec.disk.path
        self.assertEqual({old, new}, set(self.disks.iterdir()))


@exhaustive.usually()
class TestExamplesEventlet(TestExamples):
    """With eventlet."""

    BACKEND = 'eventlet'


class TestOpenStackClient(ApiRebuildTestCase):
    """``openstack server rebuild``."""

    def test_rebuild(self) -> None:
        guest = self.own_guest(start=False)
        # The client warns of servers without an image: they may be on volumes.
        self.rebuild(guest, self.golden)
        self.start_service()
        clouds = self.state_path / 'clouds.yaml'
        url = f'http://127.0.0.1:{self.port}'
        clouds.write_text(clients.WITHOUT_KEYSTONE.format(url=url))
        for version in exhaustive.choose(('7.4.0', '10.5.0'), ('10.5.0',)):
            before, image = self.disks_of(guest)['vda'], self.image()
            with clients.Shell(
                clients.openstack(version), clients.environment(clouds)
            ) as client:
                client.run(
                    *('server', 'rebuild', '--image', image),
                    *('--wait', guest.uuid),
                )
            new = self.disks_of(guest)['vda']
            self.assert_has(guest, new, 'shut off')
            self.assertEqual({before, new}, set(self.disks.iterdir()))
            server = self.get(f'/v2.1/servers/{guest.uuid}')[1]['server']
            self.assertEqual(image, server['image']['id'])


class TestSecondHost(ApiRebuildTestCase):
    """A host whose image service is the first one's ``/image``."""

    def test_an_image_of_the_first_host(self) -> None:
        guest = self.own_guest(start=False)
        self.start_service()
        stored = self.image_file(self.golden)
        self.configure(
            DEFAULT={'state_path': str(self.directory())},
            snapshot={'image_service': 'glance'},
            glance={
                'auth_type': 'none',
                'endpoint_override': f'http://127.0.0.1:{self.port}/image',
            },
        )
        self.rebuild(guest, self.golden)
        new = self.disks_of(guest)['vda']
        self.assert_has(guest, new, 'shut off')
        self.assertEqual('', disk.differences(new, 'qcow2', stored, 'qcow2'))
