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

"""``nova-snap nova-check`` in an environment with Nova.

libvirt is its own test driver, whose one guest has a disk of no known format.
"""

import json
import pathlib
import subprocess
import sys

from tests.nova import base
from tests.unit import base as unit_base

CONFIG = """\
[DEFAULT]
compute_driver = {driver}
state_path = {state}
[libvirt]
virt_type = qemu
connection_uri = test:///default
[nova_snap]
live_method = {method}
reserved_space_mb = {reserve}
{more}
"""


class CheckTest(unit_base.TestCase):
    """A host, good or bad."""

    def setUp(self) -> None:
        super().setUp()
        self.state = self.folder()
        (self.state / 'instances').mkdir()

    def check(
        self,
        status: int,
        driver: str = base.DRIVER,
        reserve: int = 0,
        method: str = 'mirror',
        more: str = '',
    ) -> dict[str, list[str]]:
        """Run nova-check; return result and sentence by check."""
        config = self.state / 'nova.conf'
        config.write_text(
            CONFIG.format(
                driver=driver,
                state=self.state,
                reserve=reserve,
                method=method,
                more=more,
            )
        )
        return self.check_file(status, config)

    def check_file(
        self, status: int, config: pathlib.Path
    ) -> dict[str, list[str]]:
        """Run nova-check with this nova.conf; return the findings."""
        command = [sys.executable, '-W', 'ignore', '-m', 'nova_snap.cmd.shell']
        done = subprocess.run(
            [*command, 'nova-check', '-f', 'json']
            + ['--nova-config-file', str(config)],
            capture_output=True,
            text=True,
            cwd=unit_base.REPOSITORY,
        )
        self.assertEqual(status, done.returncode, done.stderr)
        self.assertNotIn('Traceback', done.stderr)
        self.assertNotIn('Warning', done.stderr)
        return {
            row['Check']: [row['Result'], row['Detail']]
            for row in json.loads(done.stdout)
        }

    def test_good_host(self) -> None:
        found = self.check(0)
        self.assertNotIn('failed', [result for result, _ in found.values()])
        for name in ('import path', 'driver', 'compute_driver', 'user'):
            self.assertEqual('ok', found[name][0], found[name])
        self.assertEqual(['ok', 'nothing is left to undo.'], found['journal'])
        self.assertEqual('warning', found['login'][0])
        self.assertIn('glance-api.conf', found['Glance'][1])

    def test_each_server(self) -> None:
        (server,) = (
            finding
            for name, finding in self.check(0).items()
            if name.startswith('server ')
        )
        self.assertEqual('warning', server[0])
        self.assertIn('Cannot take a snapshot', server[1])

    def test_driver_of_nova(self) -> None:
        found = self.check(1, driver='libvirt.LibvirtDriver')
        result, detail = found['compute_driver']
        self.assertEqual('failed', result)
        self.assertIn(f'compute_driver = {base.DRIVER}', detail)

    def test_folder_that_can_not_be_made(self) -> None:
        (self.state / 'nova_snap').touch()
        self.assertEqual('failed', self.check(1)['state_path'][0])

    def journal(self, text: str) -> pathlib.Path:
        """Write a file to the journal."""
        path = self.state / 'nova_snap' / 'journal' / 'x.json'
        path.parent.mkdir(parents=True)
        path.write_text(text)
        return path

    def test_unreadable_entry_of_the_journal(self) -> None:
        path = self.journal('{bad')
        result, detail = self.check(1)['journal']
        self.assertEqual('failed', result)
        self.assertIn(f'{path} is unreadable', detail)

    def test_value_that_an_option_does_not_take(self) -> None:
        found = self.check(1, method='pulll')
        result, detail = found['options']
        self.assertEqual('failed', result)
        self.assertIn('[nova_snap] live_method: Valid values are', detail)
        self.assertIn("found 'pulll'.", detail)
        others = [result for result, _ in found.values()]
        self.assertEqual(1, others.count('failed'))
        self.assertIn('MiB are free', found['snapshots_directory'][1])

    def test_value_of_nova_that_an_option_does_not_take(self) -> None:
        found = self.check(
            1, more='[workarounds]\ndisable_libvirt_livesnapshot = perhaps'
        )
        self.assertIn('disable_libvirt_livesnapshot', found['options'][1])
        self.assertEqual('ok', found['state_path'][0])
        self.assertIn('see options', found['folders'][1])

    def test_nova_conf_that_can_not_be_read(self) -> None:
        config = self.state / 'nova.conf'
        for content in (None, b'no assignment', b'\xff\xfe'):
            if content is not None:
                config.write_bytes(content)
            found = self.check_file(1, config)
            self.assertEqual(['nova.conf'], list(found))
            self.assertEqual('failed', found['nova.conf'][0])

    def test_login_that_can_not_be_used(self) -> None:
        for login, reason in (
            ('auth_type = nonsense', 'nonsense'),
            ('auth_section = nosuch', 'is not set'),
            ('auth_type = password', 'auth_url'),
        ):
            found = self.check(0, more=f'[service_user]\n{login}')['login']
            self.assertEqual('warning', found[0])
            self.assertIn('[service_user] cannot be used', found[1])
            self.assertIn(reason, found[1])

    def test_too_little_room(self) -> None:
        found = self.check(1, reserve=1 << 40)
        self.assertIn('reserved_space_mb', found['snapshots_directory'][1])

    def test_nothing_is_changed(self) -> None:
        self.check(0)
        names = sorted(
            path.name for path in pathlib.Path(self.state).iterdir()
        )
        self.assertEqual(['instances', 'nova.conf'], names)
