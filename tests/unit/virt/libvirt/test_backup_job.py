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

"""Where an export can be."""

import pathlib

import testtools

from nova_snap.virt.libvirt import backup_job


class LengthTest(testtools.TestCase):
    """troubleshooting.rst promises 61 bytes."""

    def test_of_the_directory(self) -> None:
        for length, is_short_enough in ((61, True), (62, False)):
            directory = pathlib.Path('/' + 'd' * (length - 1))
            self.assertEqual(
                is_short_enough, backup_job.is_short_enough(directory)
            )


class UriTest(testtools.TestCase):
    """What libnbd gets: a "+" is no space to it."""

    def test_odd_directory(self) -> None:
        export = backup_job.Export(pathlib.Path('/a b+c/d&e'))
        self.assertEqual(
            'nbd+unix:///vda?socket=%2Fa%20b%2Bc%2Fd%26e%2Fnbd.sock',
            export.uri('vda'),
        )
