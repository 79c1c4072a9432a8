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

"""What ``nova-snap nova-check`` says of folders, to root and to others."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import pwd

from nova_snap.nova import settings
from nova_snap.nova.check import findings
from nova_snap.nova.check import folders
from nova_snap.virt.storage import locality
from tests.nova import base

SCRATCH = 'scratch_directory'

OTHER = pwd.getpwnam('nobody').pw_uid


@contextlib.contextmanager
def as_other() -> Iterator[None]:
    """Be a user who is not root, as nova-compute is."""
    os.seteuid(OTHER)
    try:
        yield
    finally:
        os.seteuid(0)


class FoldersTestCase(base.NovaTestCase):
    """A host whose nova-compute does not run as root."""

    def setUp(self) -> None:
        super().setUp()
        settings.register()
        self.state = pathlib.Path(base.CONF.state_path)
        os.chown(self.state, OTHER, -1)

    def found(self, check: findings.Check) -> list[tuple[str, str, str]]:
        """Run a check as nova-compute's user; return its findings."""
        with as_other():
            return [
                (finding.check, str(finding.result), finding.detail)
                for finding in check()
            ]

    def only(self, check: findings.Check) -> tuple[str, str]:
        """Return result and sentence of a check with one finding."""
        ((_check, result, detail),) = self.found(check)
        return result, detail

    def in_forbidden_folder(self) -> None:
        """Be where nova-compute's user may not look, as in root's home."""
        forbidden = self.folder()
        forbidden.chmod(0o700)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(forbidden)

    def options(self, text: str) -> None:
        """Let this be in [nova_snap] of nova.conf."""
        self.configure(f'[nova_snap]\n{text}')
        self.state = pathlib.Path(base.CONF.state_path)
        os.chown(self.state, OTHER, -1)


class UserTest(FoldersTestCase):
    """instances_path, by which nova-compute's user is known."""

    def test_of_nova_compute(self) -> None:
        instances = self.state / 'instances'
        instances.mkdir()
        self.assertEqual('warning', self.only(folders.check_user)[0])
        os.chown(instances, OTHER, -1)
        self.assertEqual('ok', self.only(folders.check_user)[0])

    def test_where_one_may_not_look(self) -> None:
        (self.state / 'instances').mkdir()
        os.chown(self.state, 0, -1)
        result, detail = self.only(folders.check_user)
        self.assertEqual('failed', result)
        self.assertIn(f'may not look into {self.state}', detail)

    def test_relative_where_one_may_not_look(self) -> None:
        self.in_forbidden_folder()
        self.configure('instances_path = here')
        self.assertEqual('failed', self.only(folders.check_user)[0])

    def test_missing(self) -> None:
        result, detail = self.only(folders.check_user)
        self.assertEqual('failed', result)
        self.assertIn(f'{self.state}/instances is no folder', detail)


class StateTest(FoldersTestCase):
    """The journal and the locks."""

    def fails(self, text: str) -> None:
        """Check that the state_path fails, with this text."""
        result, detail = self.only(folders.check_state)
        self.assertEqual('failed', result, detail)
        self.assertIn(text, detail)

    def folder_of_root(self, name: str, mode: int) -> pathlib.Path:
        """Make a folder of root's in a state_path of another user."""
        path = self.state / 'nova_snap' / name
        path.mkdir(parents=True)
        path.chmod(mode)
        os.chown(path.parent, OTHER, -1)
        return path

    def test_good(self) -> None:
        result, detail = self.only(folders.check_state)
        self.assertEqual('ok', result)
        self.assertIn('will be made', detail)

    def test_on_the_network(self) -> None:
        self.patch(locality, '_file_system', lambda _path: 'nfs4')
        (good, _detail), (result, detail) = (
            row[1:] for row in self.found(folders.check_state)
        )
        self.assertEqual(('ok', 'warning'), (good, result))
        self.assertIn('other hosts may reach', detail)

    def test_journal_of_root(self) -> None:
        path = self.folder_of_root('journal', 0o755)
        self.fails(f'may not write to {path}.')

    def test_locks_of_root(self) -> None:
        path = self.folder_of_root('locks', 0o700)
        self.fails(f'may not write to {path}.')

    def test_lock_of_root(self) -> None:
        path = self.folder_of_root('locks', 0o700)
        (path / 'nova-snap-instance-x').touch(0o644)
        os.chown(path, OTHER, -1)
        self.fails(f'may not write to {path}/nova-snap-instance-x.')

    def test_default_of_nova_from_pip(self) -> None:
        base.CONF.set_override('state_path', base.CONF.pybasedir)
        self.addCleanup(base.CONF.clear_override, 'state_path')
        self.fails('set [DEFAULT] state_path')

    def test_relative(self) -> None:
        self.in_forbidden_folder()
        self.options('state_path = here')
        self.fails('here is relative')


class TemporaryTest(FoldersTestCase):
    """snapshots_directory and scratch_directory."""

    def scratch(
        self, path: object, result: str, text: str, more: str = ''
    ) -> None:
        """Check that a scratch_directory has this finding."""
        self.options(f'live_method = pull\nscratch_directory = {path}\n{more}')
        rows = self.found(folders.check_folders)
        self.assertIn(
            (result, True),
            [(row[1], text in row[2]) for row in rows if row[0] == SCRATCH],
            rows,
        )

    def test_good(self) -> None:
        rows = self.found(folders.check_folders)
        self.assertEqual({'snapshots_directory'}, {row[0] for row in rows})
        self.assertNotIn('failed', [row[1] for row in rows])

    def test_relative(self) -> None:
        self.scratch('relative/x', 'failed', 'relative/x is relative')

    def test_too_long_for_sockets(self) -> None:
        self.scratch(self.state / ('d' * 61), 'warning', 'is too long')

    def test_length_matters_to_pull_only(self) -> None:
        path = self.state / ('d' * 61)
        os.chown(path.parent, OTHER, -1)
        for method, expected in (('auto', True), ('mirror', False)):
            self.configure(
                f'snapshots_directory = {path}\n'
                f'[nova_snap]\nlive_method = {method}'
            )
            rows = self.found(folders.check_folders)
            found = any('is too long' in row[2] for row in rows)
            self.assertIs(expected, found, rows)

    def test_in_memory(self) -> None:
        disk = self.small_disk(1 << 20)
        os.chown(disk, OTHER, -1)
        self.scratch(disk, 'warning', 'in the memory of the host')

    def test_too_little_room(self) -> None:
        self.scratch(
            self.state,
            'failed',
            'scratch_min_mb',
            'scratch_min_mb = 999999999',
        )

    def test_of_another_user(self) -> None:
        folder = self.folder()
        self.scratch(folder, 'failed', f'may not write to {folder}')
