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

"""Backups by the command."""

import json
import os
import signal
from typing import Any

from nova_snap import exception
from nova_snap.compute import manager as manager_lib
from nova_snap.image import filesystem
from tests.unit.cmd import base
from tests.unit.cmd import test_image_sets

#: What most tests keep.
TWO = ('--type', 'daily', '--rotation', '2')


class BackupTestCase(test_image_sets.TwoDisksTestCase):
    """Guests with backups in a directory."""

    def images(self) -> set[str]:
        """Return the IDs of all images."""
        return {row['ID'] for row in self.json('image-list')}


class CreateTest(BackupTestCase):
    """``backup-create``."""

    def at(self, time: str) -> None:
        """Let the records that are made from now on be of this time."""
        self.patch(filesystem, '_now', lambda: time)

    def backup(self, *arguments: str, server: str = 'db') -> Any:
        """Take a backup; return a row for each of the series."""
        return self.json('backup-create', server, 'b', *arguments)

    def refuse_deletion(self) -> None:
        """Let no image be deleted; of Glance, a protected one is not."""

        def delete(_service: Any, image_id: str) -> None:
            raise exception.ImageNotPermitted(
                image_id=image_id, reason='it is protected.'
            )

        self.patch(filesystem.FilesystemImageService, 'delete', delete)

    def test_rotation(self) -> None:
        made = [self.backup(*TWO)[0]['ID'] for _number in range(2)]
        rows = self.backup(*TWO)
        self.assertEqual(
            ['kept (latest)', 'kept (latest)', 'deleted'],
            [row['Outcome'] for row in rows],
        )
        self.assertEqual([*reversed(made)], [row['ID'] for row in rows[1:]])
        self.assertEqual({rows[0]['ID'], made[1]}, self.images())
        shown = self.json('image-show', rows[0]['ID'])
        self.assertEqual(
            ('backup', 'daily', 'active'),
            (shown['image_type'], shown['backup_type'], shown['status']),
        )

    def test_others_are_left_alone(self) -> None:
        self.backup('--type', 'weekly', '--rotation', '1')
        self.backup(*TWO, server='web')
        self.json('image-create', 'db', 'no backup')
        before = self.images()
        self.backup(*TWO)
        latest = self.backup('--type', 'daily', '--rotation', '1')[0]
        self.assertEqual({latest['ID'], *before}, self.images())

    def test_by_age(self) -> None:
        keep = ('--type', 'x', '--keep-daily', '2', '--keep-monthly', '2')
        rows = []
        for day in ('01-30', '01-31', '02-01', '02-02', '02-03'):
            self.at(f'2026-{day}T03:00:00Z')
            rows = self.backup(*keep)
        self.assertEqual(
            [
                ('2026-02-03', 'kept (daily, monthly)'),
                ('2026-02-02', 'kept (daily)'),
                ('2026-02-01', 'deleted'),
                ('2026-01-31', 'kept (monthly)'),
            ],
            [(row['Created At'][:10], row['Outcome']) for row in rows],
        )

    def test_dry_run(self) -> None:
        made = [self.backup(*TWO)[0]['ID'] for _number in range(2)]
        rows = self.backup(*TWO, '--dry-run')
        self.assertEqual(['', *reversed(made)], [row['ID'] for row in rows])
        self.assertEqual(
            [*['would be kept (latest)'] * 2, 'would be deleted'],
            [row['Outcome'] for row in rows],
        )
        self.assertEqual({*made}, self.images())

    def test_set(self) -> None:
        one = ('--type', 'x', '--rotation', '1', '--all-disks')
        self.backup(*one, server='two')
        (latest, deleted) = self.backup(*one, server='two')
        self.assertEqual('deleted', deleted['Outcome'])
        self.assertEqual(2, len(self.images()))
        shown = self.json('image-show', latest['ID'])
        self.assertTrue(shown['set_complete'])

    def test_one_that_fails_deletes_none(self) -> None:
        made = {self.backup(*TWO)[0]['ID'] for _number in range(2)}
        self.disk.unlink()
        self.check_failure(1, '', 'backup-create', 'db', 'b', *TWO)
        self.assertEqual(made, self.images())

    def test_one_that_cannot_be_deleted(self) -> None:
        made = self.backup(*TWO)[0]['ID']
        self.backup(*TWO)
        self.refuse_deletion()
        found = self.run_command('backup-create', 'db', 'b', *TWO)
        self.assertEqual(4, found.status)
        self.assertRegex(found.output, f'{made}.* not deleted: .*protected')
        self.assertIn('not all backups that no rule keeps', found.errors)
        self.assertEqual(3, len(self.images()))

    def test_others_that_cannot_be_asked_for(self) -> None:
        """The new one is named, since no row names it."""

        def fail(_service: Any, **_filters: str) -> None:
            raise exception.ImageServiceUnavailable(
                endpoint='x', reason='try later.'
            )

        self.patch(filesystem.FilesystemImageService, 'list', fail)
        found = self.run_command('backup-create', 'db', 'b', *TWO)
        self.assertEqual(1, found.status)
        (record,) = (self.state / 'state' / 'images').glob('*.json')
        self.assertIn(f'Backup {record.stem} is made', found.errors)

    def test_what_keeps_nothing_is_refused(self) -> None:
        create = ('backup-create', 'db', 'b')
        daily = (*create, '--type', 'daily')
        self.check_failure(2, '--type', *create, '--rotation', '1')
        self.check_failure(2, 'Give --rotation', *daily)
        self.check_failure(2, 'less than 1', *daily, '--rotation', '0')
        self.check_failure(2, 'less than 1', *daily, '--keep-daily', '-1')
        self.check_failure(2, 'invalid', *daily, '--rotation', 'x')
        self.assertEqual([], self.files())


class AllTest(BackupTestCase):
    """``backup-all``."""

    def test_each_server(self) -> None:
        rows = self.json('backup-all', *TWO)
        self.assertEqual(
            [(name, '1 kept, 0 deleted') for name in ('db', 'two', 'web')],
            [(row['Name'], row['Outcome']) for row in rows],
        )
        self.assertEqual({row['Image'] for row in rows}, self.images())
        names = [row['Name'] for row in self.json('image-list')]
        for name in names:
            self.assertRegex(name, r'^(db|two|web)-daily-\d{8}T\d{6}Z$')

    def test_some_servers(self) -> None:
        match = ('--match', 'w*', '--match', 'db')
        rows = self.json('backup-all', *TWO, *match)
        self.assertEqual(['db', 'web'], [row['Name'] for row in rows])
        self.check_failure(3, 'x-*', 'backup-all', *TWO, '--match', 'x-*')

    def test_all_disks(self) -> None:
        words = (*TWO, '--match', 'two', '--all-disks')
        self.json('backup-all', *words)
        self.assertEqual(2, len(self.images()))

    def test_one_that_fails(self) -> None:
        self.add_guest('gone', base.DISKLESS, 'stopped', kind=None)
        found = self.run_command('backup-all', *TWO, '-f', 'json')
        self.assertEqual(1, found.status)
        self.assertIn('should be deleted: 1;', found.errors)
        rows = {row['Name']: row for row in json.loads(found.output)}
        self.assertEqual('', rows['gone']['Image'])
        self.assertIn(base.DISKLESS, rows['gone']['Outcome'])
        self.assertEqual(3, len(self.images()))

    def test_one_that_fails_as_nobody_expects(self) -> None:
        take = manager_lib.SnapshotManager.snapshot_instance

        def fail(manager: Any, instance: Any, *rest: Any, **more: Any) -> Any:
            if instance.name == 'db':
                raise AssertionError
            return take(manager, instance, *rest, **more)

        manager = manager_lib.SnapshotManager
        self.patch(manager, 'snapshot_instance', fail)
        found = self.run_command('backup-all', *TWO, '-f', 'json')
        self.assertEqual(1, found.status)
        rows = {row['Name']: row for row in json.loads(found.output)}
        self.assertEqual('AssertionError', rows['db']['Outcome'])
        self.assertEqual(
            {rows['two']['Image'], rows['web']['Image']}, self.images()
        )

    def test_dry_run(self) -> None:
        self.json('backup-all', *TWO)
        before = self.images()
        keep = ('--type', 'daily', '--rotation', '1')
        rows = self.json('backup-all', *keep, '--dry-run')
        self.assertEqual(
            {'1 would be kept, 1 would be deleted'},
            {row['Outcome'] for row in rows},
        )
        self.assertEqual(before, self.images())

    def test_interrupted(self) -> None:
        """The backup that is taken is cancelled, and no other begun."""
        os.truncate(self.disk, 8 << 30)
        child = self.start('backup-all', *TWO, '--poll', '-f', 'json')
        assert child.stderr is not None
        child.stderr.readline()
        found = self.outcome(child, signal.SIGTERM)
        self.assertEqual(1, found.status, found.errors)
        self.assertEqual(3, found.output.count('interrupted by SIGTERM'))
        self.assertEqual([], self.files())
