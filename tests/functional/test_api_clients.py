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

from collections.abc import Iterator
import contextlib
import hashlib
import io
import json
import os
from typing import Any
import uuid

import bcrypt
import glanceclient
import openstack
import testtools

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap.image import api as image_api
from tests.functional import api_base
from tests.lab import clients
from tests.lab import exhaustive
from tests.lab import guest as guest_lib

#: Of openstackclient, the oldest and the newest that are promised: usually
#: one without a password and the other with one.
VERSIONS = exhaustive.choose(('7.4.0', '10.5.0'), usual=('7.4.0',))
VERSIONS_WITH_PASSWORD = exhaustive.choose(
    ('7.4.0', '10.5.0'), usual=('10.5.0',)
)

#: Commands that switch a server on and off, and its status after each.
POWER = (
    (('pause',), 'PAUSED'),
    (('unpause',), 'ACTIVE'),
    (('suspend',), 'SUSPENDED'),
    (('resume',), 'ACTIVE'),
    (('stop',), 'SHUTOFF'),
    (('start',), 'ACTIVE'),
    (('reboot', '--wait'), 'ACTIVE'),
    (('reboot', '--hard', '--wait'), 'ACTIVE'),
)

#: What the requests do is shown in test_api_power.py.
POWER_COMMANDS = exhaustive.choose(POWER, usual=POWER[:2])

#: Names of backups, of which two are kept.  A client waits for seconds after
#: each; that the oldest goes is shown in test_api_power.py, too.
BACKUPS = exhaustive.choose(
    ('nightly-1', 'nightly-2', 'nightly-3'), usual=('nightly-3',)
)
KEPT = BACKUPS[-2:]

DATA = os.urandom(3 << 20)


class ClientsTestCase(api_base.ServiceTestCase):
    """A running guest, an image, and the service."""

    GUEST_GROUP = 'plain'

    def setUp(self) -> None:
        super().setUp()
        self.guest = self.class_guest()
        self.url = f'http://127.0.0.1:{self.port}'
        self.image_id = self.make_image('an-image')
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
    """python-openstackclient."""

    client: clients.Shell

    def ask(self, *command: str) -> Any:
        """Run a command; return the document that it prints."""
        return json.loads(self.client.run(*command, '-f', 'json'))

    def test_commands(self) -> None:
        """Look at servers, flavors and images, and make and save some."""
        clouds = self.state_path / 'clouds.yaml'
        clouds.write_text(clients.WITHOUT_KEYSTONE.format(url=self.url))
        for version in VERSIONS:
            with (
                self.subTest(version=version),
                clients.Shell(
                    clients.openstack(version), clients.environment(clouds)
                ) as self.client,
            ):
                self.check_lists()
                self.check_images_are_made()
                self.check_power()

    def check_lists(self) -> None:
        """Look at what there is, and save an image."""
        (server,) = self.ask('server', 'list')
        self.assertEqual(
            (self.guest.uuid, 'ACTIVE'), (server['ID'], server['Status'])
        )
        shown = self.ask('server', 'show', server['Name'])
        self.assertEqual(self.guest.uuid, shown['id'])
        self.assertEqual('active', shown['OS-EXT-STS:vm_state'])
        (flavor,) = self.ask('flavor', 'list')
        self.assertEqual(self.guest.spec.memory, flavor['RAM'])
        listed = {image['ID'] for image in self.ask('image', 'list')}
        self.assertIn(self.image_id, listed)
        path = self.state_path / 'saved'
        self.client.run('image', 'save', '--file', str(path), 'an-image')
        self.assertEqual(digest(DATA), digest(path.read_bytes()))

    def check_images_are_made(self) -> None:
        """Make an image and backups, of which two are kept."""
        uuid = self.guest.uuid
        image = self.ask('server', 'image', 'create', '--wait', uuid)
        self.assertEqual('active', image['status'])
        for name in BACKUPS:
            backup = ('--type', 'daily', '--rotate', '2', '--name', name)
            self.ask('server', 'backup', 'create', *backup, '--wait', uuid)
        kept = {image['Name'] for image in self.ask('image', 'list')}
        self.assertEqual(KEPT, tuple(sorted(kept.intersection(BACKUPS))))
        wanted = [*['createBackup'] * len(BACKUPS), 'createImage']
        self.assertEqual(wanted, self.last_actions(len(wanted)))
        self.assert_nothing_left()

    def last_actions(self, number: int) -> list[str]:
        """Return the last actions on the guest, the latest first."""
        listed = self.ask('server', 'event', 'list', self.guest.uuid)
        return [event['Action'] for event in listed][:number]

    def check_power(self) -> None:
        """Switch the guest on and off."""
        uuid = self.guest.uuid
        for command, status in POWER_COMMANDS:
            self.client.run('server', *command, uuid)
            self.wait_until(
                self.service,
                f'{command} has ended',
                lambda: self.shown()['OS-EXT-STS:task_state'] is None,
            )
            self.assertEqual(status, self.shown()['status'], command)
        self.guest.wait_until_up()
        names = [command[0] for command, _status in POWER_COMMANDS]
        self.assertEqual(names, list(reversed(self.last_actions(len(names)))))

    def shown(self) -> Any:
        """Return the guest as the service shows it."""
        return self.get(f'/v2.1/servers/{self.guest.uuid}')[1]['server']


@exhaustive.usually('test_commands')
class PasswordTest(api_base.ServiceTestCase):
    """python-openstackclient with a name and a password, without Keystone."""

    PASSWORD = 'the-password'

    def setUp(self) -> None:
        super().setUp()
        hashed = bcrypt.hashpw(self.PASSWORD.encode(), bcrypt.gensalt(4))
        users = self.state_path / 'htpasswd'
        users.write_text(f'you:{hashed.decode()}\n')
        self.guest = self.make_guest(start=False)
        self.start_service(
            api={
                'auth_strategy': 'http_basic',
                'http_basic_auth_user_file': str(users),
            }
        )

    @contextlib.contextmanager
    def client(self, version: str, password: str) -> Iterator[clients.Shell]:
        """Have a client of a version that sends a password."""
        clouds = self.state_path / 'clouds.yaml'
        clouds.write_text(
            clients.WITH_PASSWORD.format(
                url=f'http://127.0.0.1:{self.port}',
                username='you',
                password=password,
            )
        )
        with clients.Shell(
            clients.openstack(version), clients.environment(clouds)
        ) as shell:
            yield shell

    def test_commands(self) -> None:
        for version in VERSIONS_WITH_PASSWORD:
            with (
                self.subTest(version=version),
                self.client(version, self.PASSWORD) as shell,
            ):
                image = json.loads(
                    shell.run(
                        *('server', 'image', 'create', '--wait'),
                        *(self.guest.uuid, '-f', 'json'),
                    )
                )
                self.assertEqual('active', image['status'])
        self.assert_nothing_left()

    def test_another_password(self) -> None:
        with (
            self.client('10.5.0', 'another') as shell,
            testtools.ExpectedException(clients.CommandFailed, '.*401'),
        ):
            shell.run('server', 'list')


class NovaClientTest(ClientsTestCase):
    """python-novaclient, the last one with the command ``nova``."""

    def nova(self, *arguments: str) -> list[dict[str, str]]:
        """Run a command; return the rows of the table that it prints."""
        # All of these have to be there; the last three may be anything.
        variables = {
            'OS_AUTH_TYPE': 'none',
            'OS_ENDPOINT': f'{self.url}/v2.1',
            'OS_AUTH_URL': 'none',
            'OS_USERNAME': 'none',
            'OS_PROJECT_NAME': 'none',
        }
        return clients.nova(variables, *arguments)

    def shown(self, *arguments: str) -> dict[str, str]:
        """Run a command that prints properties; return them."""
        return clients.properties(self.nova(*arguments))

    def test_commands(self) -> None:
        (server,) = self.nova('list')
        self.assertEqual(
            (self.guest.uuid, 'ACTIVE'), (server['ID'], server['Status'])
        )
        name = server['Name']
        self.assertEqual(self.guest.uuid, self.shown('show', name)['id'])
        image = self.shown('image-create', '--poll', '--show', name, 'image')
        self.assertEqual('active', image['status'])
        ids = [self.backed_up(name, backup) for backup in BACKUPS]
        for image_id in ids[: -len(KEPT)]:
            self.assertRaises(
                exception.ImageNotFound, self.images.get, image_id
            )
        for image_id in (image['id'], *ids[-len(KEPT) :]):
            self.assertEqual('active', self.images.get(image_id).status)
        actions = [
            (row['Action'], row['Message'])
            for row in self.nova('instance-action-list', name)
        ]
        wanted = [
            ('createImage', '-'),
            *[('createBackup', '-')] * len(BACKUPS),
        ]
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
