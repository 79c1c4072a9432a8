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


"""Taking images, listing and showing them, by the command."""

import fcntl
import json
import os
import signal
import struct
import termios
from typing import Any

from nova_snap import locks as locks_lib
from nova_snap import progress as progress_lib
from tests.unit.cmd import base

LONG = '語' * 255


class ImagesTestCase(base.CommandTestCase):
    """The command, and what it prints in JSON."""

    def json(self, *arguments: object) -> Any:
        """Run a command with ``-f json``; return what it prints."""
        found = self.run_command(*arguments, '-f', 'json')
        self.assertEqual(0, found.status, found.errors)
        return json.loads(found.output)


class ServersTest(ImagesTestCase):
    """Servers, and what would happen to them."""

    def test_list(self) -> None:
        self.assertEqual(
            [
                {'ID': base.STOPPED, 'Name': 'db', 'Power State': 'shutdown'},
                {'ID': base.RUNNING, 'Name': 'web', 'Power State': 'running'},
            ],
            self.json('list'),
        )

    def test_explain_by_name_and_by_id(self) -> None:
        for server in ('web', base.RUNNING, base.RUNNING.upper()):
            *facts, decision = self.json('explain', server)
            self.assertEqual('decision', decision['Fact'])
            self.assertEqual('cold', decision['Value'])
            self.assertIn('is suspended', decision['Meaning'])
            self.assertIn(
                {'Fact': 'virt type', 'Value': 'test'},
                [{k: row[k] for k in ('Fact', 'Value')} for row in facts],
            )

    def test_explain_touches_nothing(self) -> None:
        self.json('explain', 'db')
        self.assertFalse((self.state / 'state').exists())
        self.assertFalse((self.state / 'snapshots').exists())


class CreateTest(ImagesTestCase):
    """Images of a running and of a stopped guest."""

    def check_data(self, image_id: str) -> None:
        """Check that the image equals the disk, and no other file is left."""
        image = self.state / 'state' / 'images' / image_id
        self.assertEqual(self.content, image.read_bytes())
        self.assertEqual({image_id, f'{image_id}.json'}, set(self.files()))

    def test_name_cannot_command_a_terminal(self) -> None:
        """A table shows what is in a name; JSON has the name itself."""
        name = 'a\x1b]0;title\x07\u202eb\n'
        self.json('image-create', 'db', 'a')
        (record,) = (self.state / 'state' / 'images').glob('*.json')
        fields = json.loads(record.read_text())
        fields['name'] = name
        record.write_text(json.dumps(fields))
        for command in ('image-list', 'image-show'):
            more = [fields['id']] if command == 'image-show' else []
            table = self.run_command(command, *more).output
            self.assertIn(r'a\x1b]0;title\x07\u202eb\n', table)
            for one in name[1:2] + name[-3]:
                self.assertNotIn(one, table)
            self.assertIn(
                json.dumps(name), json.dumps(self.json(command, *more))
            )

    def test_of_a_stopped_guest(self) -> None:
        image = self.json('image-create', 'db', 'backup')
        self.assertEqual(
            {'name': 'backup', 'status': 'active'},
            {key: image[key] for key in ('name', 'status')},
        )
        self.assertEqual({'id', 'name', 'status'}, set(image))
        self.check_data(image['id'])

    def test_of_a_running_guest(self) -> None:
        self.check_data(self.json('image-create', 'web', 'a')['id'])

    def test_show_and_metadata(self) -> None:
        arguments = ('--metadata', 'a=b=c', '--metadata', 'ort=Köln')
        created = self.json(
            *('image-create', '--show', *arguments),
            *('--metadata', 'empty=', 'db', LONG),
        )
        self.assertEqual(LONG, created['name'])
        self.assertEqual('b=c', created['a'])
        self.assertEqual('Köln', created['ort'])
        self.assertEqual('', created['empty'])
        self.assertEqual('snapshot', created['image_type'])
        self.assertEqual(base.STOPPED, created['instance_uuid'])
        self.assertEqual(len(self.content), created['size'])
        for image in (created['id'], LONG):
            self.assertEqual(created, self.json('image-show', image))
        self.assertEqual(
            [
                {
                    'ID': created['id'],
                    'Name': LONG,
                    'Status': 'active',
                    'Size': len(self.content),
                    'Server': base.STOPPED,
                    'Set': '',
                }
            ],
            self.json('image-list'),
        )

    def test_definition_of_the_server(self) -> None:
        key = 'nova_snap:definition'
        shown = self.json('image-create', '--show', 'db', 'a')
        self.assertIn('<target dev="vda"', shown[key])
        self.assertNotIn(str(self.disk), shown[key])
        without = self.json(
            'image-create', '--no-definition', '--show', 'db', 'b'
        )
        self.assertNotIn(key, without)

    def test_name_of_two_images(self) -> None:
        for _number in range(2):
            self.json('image-create', 'db', 'a')
        self.check_failure(4, "'a'", 'image-show', 'a')

    def test_what_is_not_accepted(self) -> None:
        for text, arguments in (
            ('KEY=VALUE', ('--metadata', 'novalue', 'db', 'a')),
            ('KEY=VALUE', ('--metadata', '=value', 'db', 'a')),
            ('256 characters', ('db', LONG + 'x')),
            ('256 characters', ('--metadata', f'k={LONG}x', 'db', 'a')),
        ):
            self.check_failure(2, text, 'image-create', *arguments)
        self.assertEqual([], self.files())


class PollTest(base.CommandTestCase):
    """Progress, for a person and for a log."""

    def test_is_silent_unless_asked(self) -> None:
        found = self.run_command('image-create', 'db', 'a')
        self.assertEqual((0, ''), (found.status, found.errors))

    def test_lines_where_there_is_no_terminal(self) -> None:
        found = self.run_command('image-create', '--poll', 'db', 'a')
        self.assertEqual(0, found.status)
        self.assertEqual(
            [
                'converting: 1.00MiB of 1.00MiB (100 %)',
                'uploading: 1.00MiB of 1.00MiB (100 %)',
            ],
            found.errors.splitlines(),
        )

    def bar(self, columns: int, lines: int) -> str:
        """Return the progress bar on a terminal of this size."""
        ours, theirs = os.openpty()
        self.addCleanup(os.close, ours)
        size = struct.pack('HHHH', lines, columns, 0, 0)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
        with open(theirs, 'w') as terminal:
            found = self.run_command(
                'image-create', '--poll', 'db', 'a', terminal=terminal
            )
            self.assertEqual(0, found.status)
        return os.read(ours, 65536).decode()

    def test_bar_on_a_terminal(self) -> None:
        shown = self.bar(columns=100, lines=25)
        for text in ('converting', 'uploading', '100%|', '1.00M/1.00M', 'B/s'):
            self.assertIn(text, shown)

    def test_bar_on_a_terminal_that_does_not_know_its_size(self) -> None:
        for columns, lines in ((0, 25), (80, 0), (0, 0)):
            with self.subTest(columns=columns, lines=lines):
                self.assertIn('100%|', self.bar(columns, lines))


class InterruptTest(base.CommandTestCase):
    """Signals while a snapshot is under way."""

    def setUp(self) -> None:
        super().setUp()
        self.options['DEFAULT']['max_concurrent_disk_ops'] = 1

    def interrupt(self, number: signal.Signals, server: str) -> base.Outcome:
        """Send a signal while a snapshot waits for its turn to convert."""
        locks = locks_lib.Locks(self.state / 'state' / 'locks', 0, 1)
        with locks.disk_operation_slot(progress_lib.Progress()):
            child = self.start('image-create', server, 'a')
            folder = self.state / 'snapshots'
            self.wait_until(
                'the snapshot was begun',
                lambda: folder.exists() and os.listdir(folder),
            )
            return self.outcome(child, number)

    def check(self, number: signal.Signals) -> None:
        """Check that a signal cancels the snapshot and leaves no file."""
        found = self.interrupt(number, 'web')
        self.assertEqual(7, found.status, found.errors)
        self.assertIn(f'interrupted by {number.name}', found.errors)
        self.assertNotIn('Traceback', found.errors)
        self.assertEqual([], self.files())

    def test_interrupt(self) -> None:
        self.check(signal.SIGINT)

    def test_terminate(self) -> None:
        self.check(signal.SIGTERM)

    def test_killed_and_recovered(self) -> None:
        self.assertEqual(-9, self.interrupt(signal.SIGKILL, 'db').status)
        self.assertNotEqual([], self.files())
        found = self.run_command('recover', '-f', 'json')
        self.assertEqual(0, found.status, found.errors)
        (row,) = json.loads(found.output)
        self.assertEqual(base.STOPPED, row['Server'])
        self.assertEqual('recovered', row['Outcome'])
        self.assertEqual([], self.files())
        again = self.run_command('recover', '-f', 'json')
        self.assertEqual([], json.loads(again.output))
        self.assertIn('Nothing was left behind', again.errors)
