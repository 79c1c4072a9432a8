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
"""Entries of the journal from when Nova made images inside Ceph."""

from nova_snap import journal as journal_lib
from nova_snap import undo
from nova_snap.image import api as image_api
from nova_snap.image import filesystem
from nova_snap.nova import direct
from tests.nova import base
from tests.unit import journals
from tests.unit.compute import base as unit_compute

RECORD = '2f0c3bd5-1b7a-4f4e-9d0e-52f6a7f2f2a9'


class RemoveCloneTest(base.NovaTestCase):
    """What an earlier release has left when it was killed."""

    def test_is_named_and_stays(self) -> None:
        directory = self.folder()
        journals.leave(
            directory / 'journal',
            unit_compute.INSTANCE.uuid,
            'web',
            direct.RemoveClone(RECORD, 'the-snapshot'),
        )
        images = filesystem.FilesystemImageService(directory / 'images')
        images.create(image_api.Image(RECORD, name='x', status='queued'))
        (entry,) = journal_lib.Journal(directory / 'journal').entries()
        entry.undo_all(undo.Resources(images))
        self.assertFalse(entry.close())
        for text in (RECORD, 'the-snapshot'):
            self.assertIn(text, self.log.output)
