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

import contextlib
import hashlib
import http.client
import io
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
from typing import Any
from typing import ClassVar
import uuid

import glanceclient
import openstack

from nova_snap import progress as progress_lib
from nova_snap.image import api as image_api
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


class ClientsTestCase(base.SnapshotTestCase):
    """A running guest, an image, and the service."""

    BACKEND: ClassVar[str] = 'threading'

    def setUp(self) -> None:
        super().setUp()
        self.guest = self.class_guest()
        with contextlib.closing(socket.socket()) as free:
            free.bind(('127.0.0.1', 0))
            self.port = free.getsockname()[1]
        self.url = f'http://127.0.0.1:{self.port}'
        self.configure(
            api={'concurrency_backend': self.BACKEND, 'port': str(self.port)}
        )
        self.image_id = self.make_image('an image')
        self.start_service()

    def make_image(self, name: str) -> str:
        """Make an image, as a snapshot would."""
        record = image_api.Image(
            str(uuid.uuid4()), name, 'queued', 'raw', 'bare'
        )
        self.images.create(record)
        progress = progress_lib.Progress()
        self.images.upload(record.id, io.BytesIO(DATA), len(DATA), progress)
        return record.id

    def start_service(self) -> None:
        """Start the service, and wait until it answers."""
        variables = base.environment()
        variables.pop('NOVA_SNAP_CONCURRENCY_BACKEND', None)
        process = self.start_process(
            [
                *(sys.executable, '-m', 'nova_snap.cmd.api'),
                *('--config-file', str(self.config)),
            ],
            env=variables,
        )
        deadline = time.monotonic() + base.TIMEOUT
        while not self.answers():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                self.fail(self.finish(process).stderr)
            time.sleep(0.1)

    def answers(self) -> bool:
        """Return True if the service answers."""
        connection = http.client.HTTPConnection(f'127.0.0.1:{self.port}')
        with contextlib.closing(connection):
            try:
                connection.request('GET', '/')
            except ConnectionError:
                return False
            return connection.getresponse().status == 200

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

    def test_oldest(self) -> None:
        self.check('7.4.0')

    def test_newest(self) -> None:
        self.check('10.5.0')


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
