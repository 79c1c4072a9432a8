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


import hashlib
import io
import os

import testtools

from nova_snap import exception
from nova_snap import progress
from nova_snap.image import api
from nova_snap.image import upload_data

SIZE = 2 * upload_data.CHUNK + 5


def read_all(upload):
    return b''.join(iter(upload.read, b''))


class UploadSourceTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.data = os.urandom(SIZE)

    def make(self, data, size=None, listener=None, **options):
        return upload_data.UploadData(
            data, size, progress.Progress('server', listener), **options
        )

    def test_counts_hashes_and_reports(self):
        seen = []
        upload = self.make(io.BytesIO(self.data), SIZE, seen.append)
        self.assertFalse(upload.finished)
        self.assertEqual(self.data, read_all(upload))
        self.assertTrue(upload.finished)
        self.assertEqual(SIZE, upload.done)
        self.assertEqual(
            hashlib.sha512(self.data).hexdigest(), upload.digest()
        )
        self.assertEqual(
            [0, upload_data.CHUNK, 2 * upload_data.CHUNK, SIZE],
            [p.done for p in seen],
        )
        self.assertEqual({SIZE}, {p.total for p in seen})

    def test_tells_what_was_sent_before_the_reader_knows_the_end(self):
        seen = []
        upload = self.make(io.BytesIO(self.data), at_end=seen.append)
        while upload.done < SIZE:
            upload.read()
        self.assertEqual([], seen)
        self.assertEqual(b'', upload.read())
        digest = hashlib.sha512(self.data).hexdigest()
        self.assertEqual([api.Sent(SIZE, 'sha512', digest)], seen)
        upload.read()
        self.assertEqual(1, len(seen))

    def test_restart_begins_where_the_data_stood(self):
        file = io.BytesIO(self.data)
        file.seek(10)
        upload = self.make(file)
        upload.read(1000)
        self.assertTrue(upload.can_restart)
        upload.restart()
        self.assertEqual(0, upload.done)
        self.assertEqual(self.data[10:], read_all(upload))
        self.assertEqual(
            hashlib.md5(self.data[10:]).hexdigest(), upload.digest('md5')
        )

    def test_pipe_can_be_restarted_until_it_is_read(self):
        reader, writer = os.pipe()
        os.write(writer, b'data')
        os.close(writer)
        with open(reader, 'rb') as pipe:
            upload = self.make(pipe)
            self.assertTrue(upload.can_restart)
            self.assertEqual(b'data', read_all(upload))
            self.assertFalse(upload.can_restart)
            self.assertIsNone(upload.digest('md5'))

    def test_algorithms_that_cannot_be_computed(self):
        for name in ('quantum', 'shake_128', ''):
            upload = self.make(io.BytesIO(self.data))
            self.assertIsNone(upload.digest(name))
            upload = self.make(io.BytesIO(self.data), algorithm=name)
            read_all(upload)
            self.assertEqual(
                hashlib.sha512(self.data).hexdigest(), upload.digest()
            )

    def test_stream_hashed_by_another_algorithm(self):
        reader, writer = os.pipe()
        os.write(writer, b'data')
        os.close(writer)
        with open(reader, 'rb') as pipe:
            upload = self.make(pipe, algorithm='sha256')
            read_all(upload)
        self.assertEqual(
            hashlib.sha256(b'data').hexdigest(), upload.digest('sha256')
        )
        self.assertIsNone(upload.digest('sha512'))

    def test_too_few_and_too_many_bytes(self):
        for size in (SIZE - 1, SIZE + 1, 0):
            upload = self.make(io.BytesIO(self.data), size)
            self.assertRaises(exception.SnapshotFailed, read_all, upload)
            self.assertFalse(upload.finished)

    def test_source_that_cannot_be_read(self):
        # Nothing is mapped at the address 0, so reading there is an error.
        with open('/proc/self/mem', 'rb', buffering=0) as memory:
            upload = self.make(memory)
            error = self.assertRaises(exception.SnapshotFailed, upload.read)
        self.assertIn('Input/output error', str(error))

    def test_cancelled(self):
        watch = progress.Progress('server')
        upload = upload_data.UploadData(io.BytesIO(self.data), None, watch)
        upload.read(10)
        watch.cancel('enough')
        self.assertRaises(exception.SnapshotCancelled, upload.read)
