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

import pathlib
import random
import subprocess
import sys
import tempfile

import testtools

from tests.functional.qcow2 import servers
from tests.unit.qcow2 import support

MIB = 1 << 20


class CommandTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        work = tempfile.TemporaryDirectory()
        self.addCleanup(work.cleanup)
        self.work = pathlib.Path(work.name)
        self.raw = self.work / 'raw'
        self.raw.write_bytes(random.Random(3).randbytes(MIB) + bytes(MIB))
        self.image = self.work / 'image'

    def run_command(self, *arguments):
        return subprocess.run(
            [sys.executable, '-m', 'nova_snap.qcow2', *map(str, arguments)],
            capture_output=True,
        )

    def judge(self, *arguments) -> None:
        done = self.run_command(*arguments)
        self.assertEqual((0, b''), (done.returncode, done.stderr))
        support.check(self.image)
        support.compare(self.raw, self.image)

    def test_every_compression(self):
        for name in ('none', 'zstd', 'zlib'):
            self.judge(
                *(self.raw, '-o', self.image),
                *('--compress', name, '--threads', 1),
            )
            self.image.unlink()

    def test_standard_output(self):
        done = self.run_command(self.raw, '-o', '-')
        self.image.write_bytes(done.stdout)
        support.check(self.image)
        support.compare(self.raw, self.image)

    def test_nbd(self):
        socket = self.work / 'socket'
        with servers.qemu_nbd(socket, self.raw, 'raw'):
            self.judge(f'nbd+unix:///?socket={socket}', '-o', self.image)

    def test_output_exists(self):
        self.image.write_bytes(b'precious')
        done = self.run_command(self.raw, '-o', self.image)
        self.assertEqual(1, done.returncode)
        self.assertIn(b'exists', done.stderr)
        self.assertEqual(b'precious', self.image.read_bytes())

    def test_no_source(self):
        done = self.run_command(self.work / 'nothing', '-o', self.image)
        self.assertEqual(1, done.returncode)
        self.assertIn(b'No such file', done.stderr)
        self.assertNotIn(b'Traceback', done.stderr)
        self.assertFalse(self.image.exists())

    def test_broken_pipe(self):
        with self.raw.open('ab') as file:
            file.write(random.Random(4).randbytes(20 * MIB))
        command = subprocess.Popen(
            [sys.executable, '-m', 'nova_snap.qcow2', self.raw, '-o', '-'],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        command.stdout.read(1000)
        command.stdout.close()
        message = command.stderr.read()
        command.stderr.close()
        self.assertEqual(1, command.wait(30))
        self.assertIn(b'Broken pipe', message)
        self.assertNotIn(b'Traceback', message)
