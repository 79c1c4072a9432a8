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

"""Programs that have files open: real ones."""

import os
import subprocess
import sys

from nova_snap.virt.storage import open_files
from tests.unit.virt.storage import base

HOLD = """
import sys
file = open(sys.argv[1], sys.argv[2])
print("open", flush=True)
sys.stdin.read()
"""


class TestOpeners(base.DiskTestCase):
    def hold(self, path: str, mode: str) -> int:
        """Let another process open a file; return its number."""
        holder = subprocess.Popen(
            [sys.executable, '-c', HOLD, path, mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.addCleanup(holder.communicate)
        assert holder.stdout is not None
        self.assertEqual(b'open\n', holder.stdout.readline())
        return holder.pid

    def test_reading_and_writing(self) -> None:
        path = self.directory / 'disk'
        path.write_bytes(b'x')
        found = open_files.identity(str(path))
        assert found is not None
        reader = self.hold(str(path), 'rb')
        writer = self.hold(str(path), 'r+b')
        self.assertEqual(
            {(reader, False), (writer, True)},
            {
                (opener.pid, opener.writes)
                for opener in open_files.openers({found: [str(path)]})[found]
            },
        )

    def test_this_process_does_not_count(self) -> None:
        path = self.directory / 'disk'
        path.write_bytes(b'x')
        found = open_files.identity(str(path))
        assert found is not None
        with open(path, 'rb'):
            self.assertEqual({}, open_files.openers({found: [str(path)]}))

    def test_another_name_of_the_same_file(self) -> None:
        path, link = self.directory / 'disk', self.directory / 'link'
        path.write_bytes(b'x')
        os.link(path, link)
        self.assertEqual(
            open_files.identity(str(path)), open_files.identity(str(link))
        )

    def test_missing(self) -> None:
        self.assertIsNone(open_files.identity('/nowhere/at/all'))
