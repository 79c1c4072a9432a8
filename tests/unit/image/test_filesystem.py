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


"""Crashes are real ones: a process is killed while it writes."""

import hashlib
import io
import json
import os
import pathlib
import random
import resource
import signal
import stat
import subprocess
import sys
import textwrap
import time
import uuid

import fixtures
from oslo_config import cfg
import testtools

from nova_snap import conf as nova_snap_conf
from nova_snap import exception
from nova_snap import progress
from nova_snap.image import api
from nova_snap.image import filesystem
from nova_snap.image import store_folder
from tests.unit import base

MiB = 1024 * 1024

#: Makes one image after another until it is killed; says their ids.
#: Forks a writer for each line that it reads: to start one takes longer than
#: to let it write and kill it.
WRITER = textwrap.dedent("""
    import io, os, signal, sys, uuid
    from nova_snap.image import api, filesystem
    from nova_snap import progress
    data = bytes(range(256)) * 8192
    def write():
        service = filesystem.FilesystemImageService(sys.argv[1])
        pid = os.getpid()
        while True:
            image = api.Image(str(uuid.uuid4()), 'n', 'queued')
            service.create(image)
            if pid:
                print(pid, flush=True)
                pid = None
            service.upload(
                image.id, io.BytesIO(data), None, progress.Progress()
            )
            service.update(image.id, name='m', properties={'a': 'b'})
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _line in iter(sys.stdin.readline, ''):
        if os.fork() == 0:
            write()
""")
WRITTEN = bytes(range(256)) * 8192

#: Uploads what comes on stdin.
UPLOADER = textwrap.dedent("""
    import sys
    from nova_snap.image import filesystem
    from nova_snap import progress
    service = filesystem.FilesystemImageService(sys.argv[1])
    service.upload(sys.argv[2], sys.stdin.buffer, None, progress.Progress())
""")


def record(**fields):
    return api.Image(
        **{
            'id': str(uuid.uuid4()),
            'name': 'n',
            'status': 'queued',
            'disk_format': 'raw',
            **fields,
        }
    )


class FilesystemTestCase(testtools.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.useFixture(fixtures.TempDir()).path
        self.directory = pathlib.Path(directory, 'images')
        self.service = self.make()

    def make(self):
        """Make a service, as another process would."""
        return filesystem.FilesystemImageService(self.directory)

    def upload(self, image_id, data):
        return self.service.upload(
            image_id, io.BytesIO(data), None, progress.Progress()
        )

    def files(self):
        return sorted(set(os.listdir(self.directory)) - {store_folder.MARK})

    def spawn(self, program, *argv, **kwargs):
        process = subprocess.Popen(
            [sys.executable, '-c', program, str(self.directory), *argv],
            **kwargs,
        )
        self.addCleanup(process.__exit__, None, None, None)
        self.addCleanup(process.kill)
        return process


class RecordTest(FilesystemTestCase):
    def test_create_and_get(self):
        made = self.service.create(
            record(name='快照', min_disk=3, properties={'a': 'b'})
        )
        found = self.make().get(made.id)
        self.assertEqual(made, found)
        self.assertEqual('queued', found.status)
        self.assertIsNotNone(found.created_at)

    def test_directory_is_private(self):
        self.service.create(record())
        mode = stat.S_IMODE(self.directory.stat().st_mode)
        self.assertEqual(0o700, mode)

    def test_record_has_glances_schema(self):
        made = self.service.create(record(properties={'a': 'b'}))
        fields = json.loads((self.directory / f'{made.id}.json').read_text())
        self.assertEqual('b', fields['a'])
        self.assertLessEqual(
            {'id', 'name', 'status', 'os_hash_algo', 'min_disk', 'tags'},
            fields.keys(),
        )

    def test_taken_id(self):
        made = self.service.create(record())
        self.assertRaises(exception.ImageConflict, self.service.create, made)

    def test_ids_are_uuids_and_never_paths(self):
        for image_id in ('../x', 'x', '', str(uuid.uuid4()).upper(), '/'):
            self.assertRaises(
                exception.ImageRejected,
                self.service.create,
                record(id=image_id),
            )
            for call in (self.service.get, self.service.update):
                self.assertRaises(exception.ImageNotFound, call, image_id)
            self.assertRaises(
                exception.ImageNotFound, self.upload, image_id, b''
            )
            self.service.delete(image_id)

    def test_values_that_glance_refuses(self):
        for fields in (
            {'name': 'n' * 256},
            {'disk_format': 'qcow3'},
            {'properties': {'status': 'x'}},
        ):
            made = record(**fields)
            error = self.assertRaises(
                exception.ImageRejected, self.service.create, made
            )
            self.assertIn(made.id, str(error))
            self.assertRaises(
                exception.ImageNotFound, self.service.get, made.id
            )

    def test_update(self):
        made = self.service.create(record(properties={'a': 'b'}))
        self.service.update(made.id, name='x', properties={'c': 'd'})
        found = self.service.get(made.id)
        self.assertEqual('x', found.name)
        self.assertEqual({'a': 'b', 'c': 'd'}, found.properties)
        self.service.update(made.id, properties={'a': None, 'x': None})
        found = self.service.get(made.id)
        self.assertEqual({'c': 'd'}, found.properties)
        for changes in ({'status': 'active'}, {'name': 'n' * 256}):
            self.assertRaises(
                exception.ImageRejected,
                self.service.update,
                made.id,
                **changes,
            )
        self.assertEqual(found, self.service.get(made.id))

    def test_list_filters_by_fields_and_properties(self):
        self.assertEqual([], list(self.service.list()))
        one = self.service.create(record(name='a', properties={'k': 'v'}))
        two = self.service.create(record(name='b', properties={'k': 'v'}))
        for filters, expected in (
            ({'name': 'a'}, {one.id}),
            ({'k': 'v'}, {one.id, two.id}),
            ({'k': 'v', 'name': 'c'}, set()),
            ({}, {one.id, two.id}),
        ):
            found = {image.id for image in self.service.list(**filters)}
            self.assertEqual(expected, found)

    def test_damaged_record_is_named(self):
        made = self.service.create(record())
        path = self.directory / f'{made.id}.json'
        for text in ('{', '[]', '{}'):
            path.write_text(text)
            error = self.assertRaises(
                exception.ImageServiceUnavailable, self.service.get, made.id
            )
            self.assertIn(str(path), str(error))

    def test_from_conf(self):
        conf = cfg.ConfigOpts()
        nova_snap_conf.register_opts(conf)
        conf([])
        for option, value, group in (
            ('state_path', str(self.directory.parent), None),
            ('filesystem_store_datadir', str(self.directory), 'snapshot'),
        ):
            conf.set_override(option, value, group=group)
            service = filesystem.FilesystemImageService.from_conf(conf)
            made = service.create(record())
            self.assertEqual(made, self.service.get(made.id))


class UploadTest(FilesystemTestCase):
    def test_active_with_size_and_hash(self):
        made = self.service.create(record())
        data = os.urandom(3 * MiB + 1)
        image = self.upload(made.id, data)
        self.assertEqual(image, self.make().get(made.id))
        self.assertEqual(
            ('active', len(data), hashlib.sha512(data).hexdigest()),
            (image.status, image.size, image.hash_value),
        )
        self.assertEqual(data, (self.directory / made.id).read_bytes())
        self.assertEqual([made.id, f'{made.id}.json'], self.files())

    def test_active_image_takes_no_data(self):
        made = self.service.create(record())
        self.upload(made.id, b'x')
        self.assertRaises(exception.ImageConflict, self.upload, made.id, b'y')
        self.assertEqual(b'x', (self.directory / made.id).read_bytes())

    def test_delete(self):
        made = self.service.create(record())
        self.upload(made.id, b'x')
        self.service.delete(made.id)
        self.service.delete(made.id)
        self.assertEqual([], self.files())
        self.assertRaises(exception.ImageNotFound, self.service.get, made.id)

    def test_failed_source_leaves_a_queued_record(self):
        made = self.service.create(record())
        self.assertRaises(
            exception.SnapshotFailed,
            self.service.upload,
            made.id,
            io.BytesIO(b'abc'),
            4,
            progress.Progress(),
        )
        self.assertEqual([f'{made.id}.json'], self.files())
        self.assertEqual('queued', self.service.get(made.id).status)
        self.assertEqual('active', self.upload(made.id, b'abcd').status)

    def test_full_disk(self):
        """The limit on the size of files stands for it; EFBIG for ENOSPC."""
        made = self.service.create(record())
        old = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        # No multiple of anything: a part of a piece is written, the rest
        # stays in the buffer, and closing the file fails once more.
        resource.setrlimit(resource.RLIMIT_FSIZE, (MiB + 1001, old[1]))
        try:
            error = self.assertRaises(
                exception.ImageTooLarge, self.upload, made.id, bytes(4 * MiB)
            )
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
            signal.signal(signal.SIGXFSZ, handler)
        self.assertIn(str(self.directory), str(error))
        self.assertEqual([f'{made.id}.json'], self.files())

    def test_directory_that_cannot_be_made(self):
        path = self.directory.parent / 'file'
        path.touch()
        service = filesystem.FilesystemImageService(path / 'images')
        self.assertRaises(
            exception.ImageServiceUnavailable, service.create, record()
        )


class ConcurrencyTest(FilesystemTestCase):
    def start_upload(self, image_id):
        process = self.spawn(
            UPLOADER,
            image_id,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        process.stdin.write(bytes(2 * MiB))
        process.stdin.flush()
        self.wait_for(image_id, 'saving')
        return process

    def wait_for(self, image_id, status):
        deadline = time.monotonic() + 60
        while self.service.get(image_id).status != status:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)

    def test_second_upload_is_a_conflict(self):
        made = self.service.create(record())
        process = self.start_upload(made.id)
        self.assertRaises(exception.ImageConflict, self.upload, made.id, b'x')
        # Nor does a process that starts now take it for a leftover.
        self.assertEqual('saving', self.make().get(made.id).status)
        process.communicate(b'end')
        self.assertEqual(0, process.returncode)
        self.assertEqual(2 * MiB + 3, self.service.get(made.id).size)

    def test_deleted_during_the_upload(self):
        made = self.service.create(record())
        process = self.start_upload(made.id)
        self.service.delete(made.id)
        _, errors = process.communicate(b'end')
        self.assertIn(b'ImageNotFound', errors)
        self.assertEqual([], self.files())

    def test_leftovers_of_a_killed_upload_are_removed(self):
        made = self.service.create(record())
        process = self.start_upload(made.id)
        process.kill()
        process.wait()
        self.assertIn(f'{made.id}.upload', self.files())
        self.assertEqual('queued', self.make().get(made.id).status)
        self.assertEqual([f'{made.id}.json'], self.files())

    def test_killed_upload_can_be_done_again_by_whoever_was_there(self):
        made = self.service.create(record())
        process = self.start_upload(made.id)
        process.kill()
        process.wait()
        self.assertEqual('active', self.upload(made.id, b'x').status)

    def test_killed_at_any_point_there_is_no_image_or_a_whole_one(self):
        pause = random.Random(1)
        active = 0
        starter = self.spawn(
            WRITER, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        # At least 12 times, and until one was quick enough to make an image.
        for attempt in range(100):
            if attempt >= 12 and active:
                break
            starter.stdin.write(b'\n')
            starter.stdin.flush()
            pid = int(starter.stdout.readline())
            time.sleep(pause.uniform(0, 0.06 + 0.01 * attempt))
            os.kill(pid, signal.SIGKILL)
            while base.is_running(pid):
                time.sleep(0.001)
            active += self.check_all()
        self.assertGreater(active, 0)

    def check_all(self):
        """Check that each active image is whole; return their number."""
        expected = hashlib.sha512(WRITTEN).hexdigest()
        images = list(self.make().list())
        active = [image for image in images if image.status == 'active']
        for image in active:
            data = (self.directory / image.id).read_bytes()
            self.assertEqual(WRITTEN, data)
            self.assertEqual(expected, image.hash_value)
        self.assertEqual(
            sorted(
                [f'{image.id}.json' for image in images]
                + [image.id for image in active]
            ),
            self.files(),
        )
        return len(active)
