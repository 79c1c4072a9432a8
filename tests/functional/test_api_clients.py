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
"""OpenStack's own clients as processes, against the service with a guest.

There is neither Keystone nor Glance: clouds.yaml says where the services are,
and the images are in the embedded store.
"""

from collections.abc import Callable
import contextlib
import hashlib
import io
import json
import os
import pathlib
import subprocess
from typing import Any
import uuid

import glanceclient
import openstack

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap.image import api as image_api
from tests.functional import api_base
from tests.functional import base
from tests.lab import guest as guest_lib

#: Made by "tools/setup.sh --clients".
CLIENTS = pathlib.Path(__file__).parents[2] / '.lab' / 'clients'

CLOUDS = """\
clouds:
  host:
    auth_type: none
    compute_endpoint_override: {url}/v2.1
    image_endpoint_override: {url}/image
    identity_api_version: '3'
    identity_endpoint_override: {url}/
"""

DATA = os.urandom(3 << 20)


class ClientsTestCase(api_base.ServiceTestCase):
    """A running guest, an image, and the service."""

    def setUp(self) -> None:
        super().setUp()
        self.guest = self.class_guest()
        self.url = f'http://127.0.0.1:{self.port}'
        self.image_id = self.make_image('an image')
        # The guest has no agent, and does not hear that it is to shut down.
        self.service = self.start_service(
            DEFAULT={'shutdown_timeout': '1'},
            libvirt={'wait_soft_reboot_seconds': '1'},
        )

    def make_image(self, name: str) -> str:
        """Make an image, as a snapshot would."""
        record = image_api.Image(
            str(uuid.uuid4()), name, 'queued', 'raw', 'bare'
        )
        self.images.create(record)
        progress = progress_lib.Progress()
        self.images.upload(record.id, io.BytesIO(DATA), len(DATA), progress)
        return record.id

    @contextlib.contextmanager
    def defined_guests(self, number: int) -> Any:
        """Have further guests of libvirt, which do not run."""
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(self._defined()) for _ in range(number)]

    @contextlib.contextmanager
    def _defined(self) -> Any:
        guest: guest_lib.Guest = self.make_guest(start=False)
        yield guest
        guest.remove()


class OpenStackClientTest(ClientsTestCase):
    """python-openstackclient, the oldest and the newest that are promised."""

    def openstack(self, version: str, *arguments: str) -> Any:
        """Run a command; return the document that it prints."""
        clouds = self.state_path / 'clouds.yaml'
        clouds.write_text(CLOUDS.format(url=self.url))
        process = subprocess.run(
            [CLIENTS / version / 'bin' / 'openstack', *arguments],
            env=base.environment(
                OS_CLIENT_CONFIG_FILE=str(clouds), OS_CLOUD='host'
            ),
            capture_output=True,
            text=True,
            timeout=base.TIMEOUT,
        )
        self.assertEqual(0, process.returncode, process.stderr)
        return json.loads(process.stdout) if '-f' in arguments else None

    def check(self, version: str) -> None:
        """Look at servers, flavors and images, and save one."""

        def run(*arguments: str) -> Any:
            return self.openstack(version, *arguments, '-f', 'json')

        (server,) = run('server', 'list')
        self.assertEqual(
            (self.guest.uuid, 'ACTIVE'), (server['ID'], server['Status'])
        )
        shown = run('server', 'show', server['Name'])
        self.assertEqual(self.guest.uuid, shown['id'])
        self.assertEqual('active', shown['OS-EXT-STS:vm_state'])
        (flavor,) = run('flavor', 'list')
        self.assertEqual(self.guest.spec.memory, flavor['RAM'])
        (image,) = run('image', 'list')
        self.assertEqual(self.image_id, image['ID'])
        path = self.state_path / 'saved'
        self.openstack(
            version, 'image', 'save', '--file', str(path), 'an image'
        )
        self.assertEqual(digest(DATA), digest(path.read_bytes()))
        self.check_images_are_made(run)
        self.check_power(run, lambda *words: self.openstack(version, *words))

    def check_images_are_made(self, run: Callable[..., Any]) -> None:
        """Make an image and three backups, of which two are kept."""
        uuid = self.guest.uuid
        image = run('server', 'image', 'create', '--wait', uuid)
        self.assertEqual('active', image['status'])
        names = ['nightly-1', 'nightly-2', 'nightly-3']
        for name in names:
            backup = ('--type', 'daily', '--rotate', '2', '--name', name)
            run('server', 'backup', 'create', *backup, '--wait', uuid)
        kept = {image['Name'] for image in run('image', 'list')}
        self.assertEqual(names[1:], sorted(kept.intersection(names)))
        actions = [
            event['Action'] for event in run('server', 'event', 'list', uuid)
        ]
        self.assertEqual([*['createBackup'] * 3, 'createImage'], actions)
        self.assert_nothing_left()

    def check_power(
        self, run: Callable[..., Any], tell: Callable[..., Any]
    ) -> None:
        """Switch the guest on and off in every way."""
        uuid = self.guest.uuid
        for command, status in (
            (('pause',), 'PAUSED'),
            (('unpause',), 'ACTIVE'),
            (('suspend',), 'SUSPENDED'),
            (('resume',), 'ACTIVE'),
            (('stop',), 'SHUTOFF'),
            (('start',), 'ACTIVE'),
            (('reboot', '--wait'), 'ACTIVE'),
            (('reboot', '--hard', '--wait'), 'ACTIVE'),
        ):
            tell('server', *command, uuid)
            self.wait_until(
                self.service,
                f'{command} has ended',
                lambda: self.shown()['OS-EXT-STS:task_state'] is None,
            )
            self.assertEqual(status, self.shown()['status'], command)
        self.guest.wait_until_up()
        actions = [
            event['Action'] for event in run('server', 'event', 'list', uuid)
        ]
        names = 'pause unpause suspend resume stop start reboot reboot'
        self.assertEqual(names.split(), list(reversed(actions[:8])))

    def shown(self) -> Any:
        """Return the guest as the service shows it."""
        return self.get(f'/v2.1/servers/{self.guest.uuid}')[1]['server']

    def test_oldest(self) -> None:
        self.check('7.4.0')

    def test_newest(self) -> None:
        self.check('10.5.0')


class NovaClientTest(ClientsTestCase):
    """python-novaclient, the last one with the command ``nova``."""

    NOVA = CLIENTS / 'nova-18.13.1' / 'bin' / 'nova'

    def nova(self, *arguments: str) -> list[dict[str, str]]:
        """Run a command; return the rows of the table that it prints."""
        process = subprocess.run(
            [self.NOVA, *arguments],
            # All of these have to be there; the last three may be anything.
            env=base.environment(
                OS_AUTH_TYPE='none',
                OS_ENDPOINT=f'{self.url}/v2.1',
                OS_AUTH_URL='none',
                OS_USERNAME='none',
                OS_PROJECT_NAME='none',
            ),
            capture_output=True,
            text=True,
            timeout=base.TIMEOUT,
        )
        self.assertEqual(0, process.returncode, process.stderr)
        head, *rows = (
            [cell.strip() for cell in line.strip('|').split('|')]
            for line in process.stdout.splitlines()
            if line.startswith('|')
        )
        return [dict(zip(head, row, strict=True)) for row in rows]

    def shown(self, *arguments: str) -> dict[str, str]:
        """Run a command that prints properties; return them."""
        rows = self.nova(*arguments)
        return {row['Property']: row['Value'] for row in rows}

    def test_commands(self) -> None:
        (server,) = self.nova('list')
        self.assertEqual(
            (self.guest.uuid, 'ACTIVE'), (server['ID'], server['Status'])
        )
        name = server['Name']
        self.assertEqual(self.guest.uuid, self.shown('show', name)['id'])
        image = self.shown('image-create', '--poll', '--show', name, 'image')
        self.assertEqual('active', image['status'])
        ids = [self.backed_up(name, f'backup {n}') for n in range(3)]
        self.assertRaises(exception.ImageNotFound, self.images.get, ids[0])
        for image_id in (image['id'], *ids[1:]):
            self.assertEqual('active', self.images.get(image_id).status)
        actions = [
            (row['Action'], row['Message'])
            for row in self.nova('instance-action-list', name)
        ]
        wanted = [('createImage', '-'), *[('createBackup', '-')] * 3]
        self.assertEqual(wanted, actions)
        self.assert_nothing_left()

    def backed_up(self, server: str, name: str) -> str:
        """Make a backup; return the ID of its image."""
        made = self.shown('backup', server, name, 'daily', '2')
        self.wait_until(
            self.service,
            'the backup is made',
            lambda: (
                not self.get(f'/v2.1/servers/{self.guest.uuid}')[1]['server'][
                    'OS-EXT-STS:task_state'
                ]
            ),
        )
        return made['id']


class LibrariesTest(ClientsTestCase):
    """openstacksdk and python-glanceclient, with eventlet's server."""

    BACKEND = 'eventlet'

    def test_openstacksdk(self) -> None:
        cloud = openstack.connection.Connection(
            auth_type='none',
            compute_endpoint_override=f'{self.url}/v2.1',
            image_endpoint_override=f'{self.url}/image',
        )
        with self.defined_guests(3) as guests:
            ids = {self.guest.uuid, *(guest.uuid for guest in guests)}
            # Pages of one: the client follows the links.
            listed = list(cloud.compute.servers(limit=1))
            self.assertEqual(ids, {server.id for server in listed})
            stopped = cloud.compute.servers(status='SHUTOFF', name='.')
            self.assertEqual(3, len(list(stopped)))
        for name in ('second', 'third'):
            self.make_image(name)
        images = list(cloud.image.images(limit=1))
        self.assertEqual(3, len({image.id for image in images}))
        saved = io.BytesIO()
        cloud.image.download_image(self.image_id, output=saved)
        self.assertEqual(digest(DATA), digest(saved.getvalue()))
        made = cloud.compute.create_server_image(
            self.guest.uuid, 'by the SDK', wait=True
        )
        self.assertEqual('active', made.status)

    def test_glanceclient(self) -> None:
        glance = glanceclient.Client('2', endpoint=f'{self.url}/image')
        for name in ('second', 'third'):
            self.make_image(name)
        listed = list(glance.images.list(page_size=1))
        self.assertEqual(3, len({image.id for image in listed}))
        data = b''.join(glance.images.data(self.image_id))
        self.assertEqual(digest(DATA), digest(data))
        glance.images.delete(self.image_id)
        self.assertEqual(2, len(list(glance.images.list())))


def digest(data: bytes) -> str:
    """Return what stands for data in the message of a failure."""
    return hashlib.sha256(data).hexdigest()
