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

import os
import pathlib
import tempfile

import testtools

from nova_snap.qcow2 import errors
from nova_snap.qcow2 import file_source
from nova_snap.qcow2 import source as source_lib

MIB = 1 << 20


class FileSourceTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        work = tempfile.TemporaryDirectory()
        self.addCleanup(work.cleanup)
        self.path = pathlib.Path(work.name, 'disk')

    def open(self) -> file_source.FileSource:
        source = file_source.FileSource(str(self.path))
        self.addCleanup(source.close)
        return source

    def test_extents_of_a_sparse_file(self):
        with self.path.open('wb') as file:
            file.seek(MIB)
            file.write(b'x' * MIB)
            file.truncate(3 * MIB + 1)
        found = list(self.open().extents())
        self.assertEqual(
            [(0, False), (MIB, True), (2 * MIB, False)],
            [(extent.start, extent.data) for extent in found],
        )
        self.assertEqual(found, list(source_lib.checked(self.open())))

    def test_extents_at_the_edges(self):
        for content in (b'', b'x', b'x' * MIB):
            self.path.write_bytes(content)
            found = list(source_lib.checked(self.open()))
            self.assertEqual(
                [(0, len(content), True)] if content else [],
                [(e.start, e.length, e.data) for e in found],
            )
        os.truncate(self.path, 0)
        os.truncate(self.path, MIB)
        found = list(source_lib.checked(self.open()))
        self.assertEqual([source_lib.Extent(0, MIB, False)], found)

    def test_read(self):
        self.path.write_bytes(bytes(range(256)))
        self.assertEqual(b'\x05\x06', self.open().read(5, 2))

    def test_read_behind_the_end(self):
        self.path.write_bytes(b'short')
        error = self.assertRaises(errors.SourceError, self.open().read, 3, 10)
        self.assertEqual(str(self.path), error.source)

    def test_no_such_file(self):
        error = self.assertRaises(
            errors.SourceError, file_source.FileSource, '/no/such/disk'
        )
        self.assertIn('/no/such/disk', str(error))
        self.assertIn('No such file', error.reason)

    def test_read_after_close(self):
        self.path.write_bytes(b'some')
        source = self.open()
        source.close()
        source.close()
        self.assertRaises(errors.SourceError, source.read, 0, 1)
