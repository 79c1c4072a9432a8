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


"""How the command ends, and what it says then."""

import os
import subprocess

from nova_snap import exception
from nova_snap import locks as locks_lib
from nova_snap.cmd import shell
from tests.unit import base as unit_base
from tests.unit.cmd import base

COMMANDS = (
    'list',
    'explain',
    'export',
    'image-create',
    'image-list',
    'image-show',
    'recover',
)


class HelpTest(base.CommandTestCase):
    """What it says of itself."""

    def check(self, text: str, *arguments: str) -> None:
        """Check that a command succeeds and prints the text."""
        found = self.run_command(*arguments)
        self.assertEqual(0, found.status, found.errors)
        self.assertIn(text, found.output)

    def test_of_the_whole_names_commands_and_exit_statuses(self) -> None:
        found = self.run_command('--help')
        self.assertEqual(0, found.status)
        for text in (*COMMANDS, 'Exit status: 0 success', '--config-file'):
            self.assertIn(text, found.output)

    def test_of_commands(self) -> None:
        self.check('SERVER NAME', 'image-create', '--help')
        self.check('interrupted snapshots', 'help', 'recover')

    def test_every_command_is_installed_and_documented(self) -> None:
        manager = shell.Shell().command_manager
        for name in COMMANDS:
            factory, _name, _rest = manager.find_command([name])
            self.assertNotEqual('', factory.__doc__)

    def test_version(self) -> None:
        self.check('.', '--version')


class UsageTest(base.CommandTestCase):
    """Exit status 2: wrong usage or configuration."""

    def test_no_command(self) -> None:
        self.check_failure(2, 'no command')

    def test_unknown_command(self) -> None:
        found = self.run_command('nosuch')
        self.assertEqual(2, found.status)
        self.assertIn("'nosuch'", found.output)

    def test_missing_argument(self) -> None:
        self.check_failure(2, 'NAME', 'image-create', 'web')

    def test_unknown_option(self) -> None:
        self.check_failure(2, '--nosuch', 'list', '--nosuch')

    def test_option_of_the_configuration_that_is_no_number(self) -> None:
        self.options['DEFAULT']['max_concurrent_snapshots'] = 'many'
        self.check_failure(
            2, 'max_concurrent_snapshots', 'image-create', 'web', 'a'
        )

    def test_unknown_image_service(self) -> None:
        self.options['snapshot']['image_service'] = 'nosuch'
        self.check_failure(2, "'nosuch'", 'image-list')

    def test_missing_configuration_file(self) -> None:
        self.check_failure(
            2, '/nonexistent', '--config-file', '/nonexistent', 'list'
        )

    def test_guest_that_can_not_be_snapshot(self) -> None:
        self.add_guest('empty', base.DISKLESS, 'running', kind=None)
        self.check_failure(2, 'no disk', 'explain', 'empty')
        self.check_failure(2, 'no disk', 'image-create', 'empty', 'a')
        self.assertEqual([], self.files())


class StatusTest(base.CommandTestCase):
    """The other exit statuses, each with an error that says what to do."""

    def test_failed(self) -> None:
        self.disk.unlink()
        found = self.check_failure(
            1, str(self.disk), 'image-create', 'db', 'a'
        )
        self.assertEqual(1, len(found.errors.splitlines()), found.errors)
        self.assertEqual([], self.files())

    def test_traceback_only_where_it_is_asked_for(self) -> None:
        found = self.run_command('--debug', 'explain', 'nosuch')
        self.assertEqual(3, found.status)
        self.assertIn('Traceback', found.errors)

    def test_server_is_not_found(self) -> None:
        self.check_failure(3, "'nosuch'", 'explain', 'nosuch')
        self.check_failure(
            3, 'nova-snap list', 'image-create', base.DISKLESS, 'a'
        )

    def test_image_is_not_found(self) -> None:
        self.check_failure(3, 'nosuch', 'image-show', 'nosuch')

    def test_name_of_two_servers(self) -> None:
        self.add_guest('other', base.DISKLESS, 'running')
        nova = (
            '<metadata><n:instance xmlns:n="http://openstack.org/xmlns/'
            'libvirt/nova/1.1"><n:name>db</n:name></n:instance></metadata>'
        )
        self.guests[-1] = self.guests[-1].replace(
            '<devices>', f'{nova}<devices>'
        )
        found = self.check_failure(4, "'db'", 'image-create', 'db', 'a')
        self.assertIn(base.DISKLESS, found.errors)
        self.assertIn(base.STOPPED, found.errors)

    def test_snapshot_is_already_running(self) -> None:
        directory = self.state / 'state' / 'locks'
        with locks_lib.Locks(directory, 0, 0).instance(base.RUNNING):
            self.check_failure(
                4, 'already running', 'image-create', 'web', 'a'
            )
        self.assertEqual([], self.files())

    def test_not_permitted(self) -> None:
        self.assertEqual([], self.files())
        (self.state / 'state' / 'journal').mkdir(mode=0o700, parents=True)
        for path in (self.state / 'state' / 'journal', self.state / 'state'):
            path.chmod(0)
            self.addCleanup(path.chmod, 0o700)
        # Root is made as weak as another user, who may not be able to run
        # Python here.
        weak = ['setpriv', '--inh-caps=-all']
        weak.append('--bounding-set=-dac_override,-dac_read_search')
        if os.geteuid() != 0:
            weak = []
        done = subprocess.run(
            [*weak, *self.command('recover')],
            capture_output=True,
            text=True,
            cwd=unit_base.REPOSITORY,
        )
        self.assertEqual(5, done.returncode, done.stderr)
        self.assertIn('run as root', done.stderr)
        self.assertIn(str(self.state), done.stderr)

    def test_libvirt_does_not_answer(self) -> None:
        uri = f'qemu+unix:///system?socket={self.state}/nosuch'
        self.options['libvirt']['connection_uri'] = uri
        self.check_failure(6, 'check that libvirtd', 'list')
        self.check_failure(6, uri, 'image-create', 'web', 'a')
        self.assertEqual([], self.files())


class CategoryTest(unit_base.TestCase):
    """Every error has a status, by its category."""

    def test_of_errors(self) -> None:
        for error, status in (
            (exception.InvalidName(reason='a'), 2),
            (exception.ImageNotFound(image_id='a'), 3),
            (exception.RecoveryNeeded(server='a', entry='b', reason='c'), 4),
            (exception.ImageNotPermitted(reason='a'), 5),
            (exception.ImageServiceUnavailable(endpoint='a', reason='b'), 6),
            (exception.SnapshotCancelled(server='a', reason='b'), 7),
            (exception.GuestStarted(server='a'), 1),
            (ZeroDivisionError(), 1),
            (KeyboardInterrupt(), 130),
        ):
            self.assertEqual(status, shell.exit_status(error), repr(error))
