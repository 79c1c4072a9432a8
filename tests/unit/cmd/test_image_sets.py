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

"""Images of several disks by the command: created, listed, shown, deleted."""

import json
import os
from typing import Any
import uuid

from tests.unit.cmd import base
from tests.unit.cmd import test_images

TWO_DISKS = str(uuid.uuid4())


class TwoDisksTestCase(test_images.ImagesTestCase):
    """A stopped guest with two disks."""

    def setUp(self) -> None:
        super().setUp()
        second = self.state / 'second'
        self.second = os.urandom(1 << 20)
        second.write_bytes(self.second)
        disks = [
            base.DISK.format(kind='raw', path=path).replace('vda', device)
            for device, path in (('vda', self.disk), ('vdb', second))
        ]
        self.guests.append(
            base.DOMAIN.format(
                name='two',
                uuid=TWO_DISKS,
                disk=''.join(disks),
                state=base.STATES['stopped'],
            )
        )


class ImageSetsTest(TwoDisksTestCase):
    """Images of both disks."""

    def create(self, *options: str) -> Any:
        """Take an image of both disks."""
        return self.json('image-create', 'two', 'a', '--all-disks', *options)

    def rows(self) -> list[tuple[str, str]]:
        """Return name and set of each image."""
        rows = self.json('image-list')
        return sorted((row['Name'], row['Set']) for row in rows)

    def output(self, *arguments: object) -> list[str]:
        """Return the lines that a command prints."""
        found = self.run_command(*arguments)
        self.assertEqual(0, found.status, found.errors)
        return found.output.splitlines()

    def test_create(self) -> None:
        made = self.create()
        self.assertEqual(
            ['id', 'name', 'status', 'further_images'], list(made)
        )
        further = made['further_images']
        self.assertEqual(['vdb'], list(further))
        images = self.state / 'state' / 'images'
        for image_id, data in (
            (made['id'], self.content),
            (further['vdb'], self.second),
        ):
            self.assertEqual(data, (images / image_id).read_bytes())
        self.assertEqual(
            [('a', made['id']), ('a-vdb', made['id'])], self.rows()
        )

    def test_create_by_names(self) -> None:
        made = self.json(
            *('image-create', 'two', 'a', '--disk', 'vdb', '--disk', 'vda')
        )
        self.assertEqual(['vda'], list(made['further_images']))
        self.assertEqual(
            [('a', made['id']), ('a-vda', made['id'])], self.rows()
        )

    def test_create_in_text(self) -> None:
        arguments = ('image-create', 'two', 'a', '--all-disks')
        column = ('-c', 'further_images')
        (value,) = self.output(*arguments, *column, '-f', 'value')
        (shell,) = self.output(*arguments, *column, '-f', 'shell')
        table = self.output(*arguments, *column)[-2]
        yaml = self.output(*arguments, *column, '-f', 'yaml')
        ids = {row['ID'] for row in self.json('image-list')}
        for line, start, end in (
            (value, 'vdb=', ''),
            (shell, 'further_images="vdb=', '"'),
            (table, '| further_images | vdb: ', ' |'),
            (yaml[-1], '  vdb: ', ''),
        ):
            self.assertTrue(line.startswith(start), line)
            self.assertIn(
                line.removeprefix(start).removesuffix(end).strip("'"), ids
            )

    def test_show(self) -> None:
        made = self.create('--show')
        further_id = made['further_images']['vdb']
        for image_id in (made['id'], further_id):
            shown = self.json('image-show', image_id)
            self.assertTrue(shown['set_complete'])
            self.assertEqual(
                {'vda': made['id'], 'vdb': further_id}, shown['set_images']
            )
        self.assertEqual('vda,vdb', made['nova_snap:disks'])
        table = '\n'.join(self.output('image-show', made['id']))
        self.assertIn(f'vdb: {further_id}', table)

    def test_show_what_is_left(self) -> None:
        made = self.create()
        found = self.run_command('image-delete', made['further_images']['vdb'])
        self.assertEqual(0, found.status)
        self.assertIn(f'still exist: {made["id"]}', found.errors)
        shown = self.json('image-show', made['id'])
        self.assertFalse(shown['set_complete'])
        self.assertEqual({'vda': made['id'], 'vdb': None}, shown['set_images'])
        table = '\n'.join(self.output('image-show', made['id']))
        self.assertIn('vdb: missing', table)
        self.assertEqual([('a', 'incomplete')], self.rows())
        # And by the image that is left, the rest can be deleted.
        self.json('image-delete', '--set', made['id'])
        self.assertEqual([], self.rows())

    def test_show_without_the_root(self) -> None:
        made = self.create()
        self.json('image-delete', made['id'])
        further_id = made['further_images']['vdb']
        shown = self.json('image-show', further_id)
        self.assertFalse(shown['set_complete'])
        self.assertNotIn('set_images', shown)
        self.assertEqual([('a-vdb', '')], self.rows())
        self.check_failure(*(2, 'no set', 'image-delete', '--set', further_id))
        self.assertEqual([('a-vdb', '')], self.rows())

    def test_delete_by_any_image(self) -> None:
        for name in ('a', 'a-vdb'):
            made = self.create()
            further_id = made['further_images']['vdb']
            self.assertEqual(
                [
                    {
                        'Type': kind,
                        'ID': image_id,
                        'Outcome': 'deleted',
                    }
                    for kind, image_id in (
                        ('image vdb', further_id),
                        ('image vda', made['id']),
                    )
                ],
                self.json('image-delete', '--set', name),
            )
            self.assertEqual([], self.rows())

    def test_delete_a_protected_one(self) -> None:
        made = self.create()
        path = self.state / 'state' / 'images' / f'{made["id"]}.json'
        path.write_text(
            json.dumps({**json.loads(path.read_text()), 'protected': True})
        )
        self.check_failure(
            *(4, 'Protected', 'image-delete', '--set', made['id'])
        )
        self.assertEqual(2, len(self.rows()))

    def test_delete_no_set(self) -> None:
        made = self.json('image-create', 'two', 'b')
        self.check_failure(
            *(2, 'belongs to no set', 'image-delete', '--set', made['id'])
        )
        self.assertEqual([('b', '')], self.rows())

    def test_properties_are_refused(self) -> None:
        self.check_failure(
            *(2, 'reserved', 'image-create', 'two', 'a'),
            *('--metadata', f'nova_snap:set={TWO_DISKS}'),
        )
        self.assertEqual([], self.rows())

    def test_progress_is_of_both_disks(self) -> None:
        found = self.run_command(
            *('image-create', '--poll', 'two', 'a', '--all-disks')
        )
        self.assertEqual(
            [
                'converting: 2.00MiB of 2.00MiB (100 %)',
                'uploading: 2.00MiB of 2.00MiB (100 %)',
            ],
            found.errors.splitlines(),
        )

    def test_export_is_of_one_disk(self) -> None:
        output = self.state / 'image'
        self.check_failure(
            *(2, 'only one disk', 'export', 'two', '-o', output),
            *('--disk', 'vda', '--disk', 'vdb'),
        )
        self.check_failure(
            *(2, '--all-disks', 'export', 'two', '-o', output, '--all-disks')
        )
        self.assertFalse(output.exists())
        self.output('export', 'two', '-o', output, '--disk', 'vdb')
        self.assertEqual(self.second, output.read_bytes())
