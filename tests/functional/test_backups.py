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

"""Backups of a running guest, in a real Glance."""

import json
from typing import Any

import glanceclient

from tests.functional import base
from tests.functional import faults
from tests.lab import fault_proxy
from tests.lab import steps

#: What the tests keep.
TWO = ('--type', 'daily', '--rotation', '2')

UPLOAD = ('PUT', '/file$')


class TestBackups(faults.GlanceFaultTestCase):
    """Which images are in Glance after each backup."""

    def setUp(self) -> None:
        super().setUp()
        self.configure_glance(snapshot={'live_method': 'auto'})
        self.guest = self.shared_guest()
        self.found = base.Found.of(self.guest)
        # Also those of a test that has failed.
        self.addCleanup(self.records, self.guest)

    def backup(self, *arguments: str, status: int = 0) -> Any:
        """Take a backup; return a row for each of the series."""
        create = ('backup-create', self.guest.uuid, 'b', *TWO, '-f', 'json')
        done = self.run_command(*create, *arguments, status=status)
        return json.loads(done.stdout) if done.stdout else []

    def in_glance(self) -> list[str]:
        """Return the IDs of the guest's images, the latest first."""
        found = [record.id for record in self.records(self.guest)]
        self.assert_as_found(self.guest, self.found)
        self.assert_nothing_left()
        return found

    def test_rotation(self) -> None:
        made = [self.backup()[0]['ID'] for _number in range(3)]
        self.assertEqual({*made[1:]}, {*self.in_glance()})
        for image_id in made[1:]:
            self.assert_image_right(self.glance_file(image_id), 0)

    def test_one_that_fails_deletes_none(self) -> None:
        made = [self.backup()[0]['ID'] for _number in range(2)]
        self.proxy.add(*UPLOAD, fault_proxy.Answer(413, b''), None)
        self.assertEqual([], self.backup(status=1))
        self.assertEqual({*made}, {*self.in_glance()})

    def test_killed_before_the_rotation(self) -> None:
        made = [self.backup()[0]['ID'] for _number in range(2)]
        create = ('backup-create', self.guest.uuid, 'b', *TWO)
        self.killed_at(steps.before('rotate-backups'), *create)
        self.assertEqual(3, len(self.in_glance()))
        latest, before, *deleted = self.backup()
        self.assertEqual({latest['ID'], before['ID']}, {*self.in_glance()})
        self.assertEqual(set(made), {row['ID'] for row in deleted})

    def test_one_that_is_protected(self) -> None:
        made = self.backup()[0]['ID']
        self.backup()
        images = glanceclient.Client(
            '2', endpoint=self.glance.url, token='x'
        ).images
        images.update(made, protected=True)
        try:
            *_kept, row = self.backup(status=4)
        finally:
            images.update(made, protected=False)
        self.assertEqual(made, row['ID'])
        self.assertIn('not deleted', row['Outcome'])
        self.assertEqual(3, len(self.in_glance()))
