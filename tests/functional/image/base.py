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


"""What the tests of the Glance adapter share: one Glance, a proxy each."""

import atexit
import io
import json
import logging
import os
import pathlib
import shutil
import tempfile
from typing import Any
import urllib.request
import uuid

import fixtures
from oslo_config import cfg
import testtools

from nova_snap import conf as nova_snap_conf
from nova_snap import progress
from nova_snap.image import api
from nova_snap.image import glance
from tests.lab import fault_proxy
from tests.lab import glance as lab_glance

MiB = 1024 * 1024

#: More than this Glance refuses with 413 of its own.
SIZE_CAP = 256 * MiB

#: By the hash that they compute.
_running: dict[str, lab_glance.Glance] = {}


def real_glance(hash_algorithm: str = 'sha512') -> lab_glance.Glance:
    """Return the Glance of this process; start it at the first use."""
    if hash_algorithm not in _running:
        directory = tempfile.mkdtemp(prefix='nova-snap-glance-')
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
        server = lab_glance.Glance(
            directory,
            extra=f'image_size_cap = {SIZE_CAP}\n'
            f'hashing_algorithm = {hash_algorithm}',
        )
        server.start()
        _running[hash_algorithm] = server
    return _running[hash_algorithm]


def make_conf(directory: str, text: str) -> cfg.ConfigOpts:
    """Make a configuration with these lines."""
    path = pathlib.Path(directory, 'nova_snap.conf')
    path.write_text(text, encoding='utf-8')
    conf = cfg.ConfigOpts()
    nova_snap_conf.register_opts(conf)
    conf(['--config-file', str(path)], project='nova_snap')
    return conf


def record(**fields: Any) -> api.Image:
    """Make a snapshot's record with these fields."""
    return api.Image(
        **{
            'id': str(uuid.uuid4()),
            'name': 'snapshot',
            'status': 'queued',
            'disk_format': 'raw',
            'container_format': 'bare',
            'properties': {'image_type': 'snapshot'},
            **fields,
        }
    )


class Pipe(io.RawIOBase):
    """Bytes that can be read once, as from a program."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._data.readinto(buffer)


class GlanceTestCase(testtools.TestCase):
    """Tests on the real Glance behind a proxy that can fail."""

    #: Of [glance], in seconds.
    timeout = 30
    num_retries = 2
    #: Glance's hashing_algorithm.
    hash_algorithm = 'sha512'

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(fixtures.FakeLogger(level=logging.INFO))
        self.useFixture(
            fixtures.MonkeyPatch('nova_snap.clients.retry.FIRST_PAUSE', 0.05)
        )
        self.glance = real_glance(self.hash_algorithm)
        self.proxy = fault_proxy.FaultProxy(self.glance.url)
        self.proxy.start()
        self.addCleanup(self.proxy.stop)
        self.service = self.make_service(self.proxy.url)

    def make_service(
        self, url: str, lines: str = ''
    ) -> glance.GlanceImageService:
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        conf = make_conf(
            directory,
            f'[glance]\nauth_type = none\nendpoint_override = {url}\n'
            f'timeout = {self.timeout}\nnum_retries = {self.num_retries}\n'
            f'{lines}\n',
        )
        return glance.GlanceImageService.from_conf(conf)

    def new_image(self, **fields: Any) -> str:
        """Make a record for this test; return its id."""
        image = self.service.create(record(**fields))
        self.addCleanup(self.direct().delete, image.id)
        return image.id

    def direct(self) -> glance.GlanceImageService:
        """Return the service without the proxy."""
        return self.make_service(self.glance.url)

    def fail_upload(
        self, action: fault_proxy.Action, times: int | None = 1
    ) -> None:
        self.proxy.add('PUT', '/file$', action, times)

    def lie(self, image_id: str, **fields: Any) -> None:
        """Have Glance tell this of the image once it has its data."""

        def tell(_request: fault_proxy.Request) -> fault_proxy.Answer:
            with urllib.request.urlopen(
                f'{self.glance.url}/v2/images/{image_id}'
            ) as answer:
                record = json.load(answer)
            body = json.dumps(record | fields).encode()
            return fault_proxy.Answer(200, body, 'application/json')

        def arm(_request: fault_proxy.Request) -> None:
            self.proxy.add('GET', image_id, fault_proxy.Call(tell))

        self.fail_upload(fault_proxy.Call(arm))

    def uploads(self) -> int:
        return self.proxy.count('PUT', '/file$')

    def upload(
        self,
        image_id: str,
        data: bytes,
        watch: progress.Progress | None = None,
    ) -> api.Image:
        return self.service.upload(
            image_id,
            io.BytesIO(data),
            len(data),
            watch or progress.Progress('server'),
        )

    def stored(self, image_id: str) -> bytes:
        """Return the data of an image in Glance."""
        path = self.glance.directory / 'images' / image_id
        return path.read_bytes()

    def assert_left(self, image_id: str, status: str) -> None:
        """Check the status; no data may be left unless active."""
        self.assert_status(image_id, status)
        if status != 'active':
            path = self.glance.directory / 'images' / image_id
            self.assertFalse(path.exists())

    def assert_status(self, image_id: str, status: str) -> None:
        self.assertEqual(status, self.direct().get(image_id).status)


def random_bytes(size: int) -> bytes:
    return os.urandom(size)
