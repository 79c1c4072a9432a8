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

"""OpenStack's own clients, as processes.

Open this file for where they are, for a clouds.yaml, and for how a test runs
many commands of one.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import os
import pathlib
import subprocess
import tempfile
import threading
from types import TracebackType
from typing import Self

#: Made by "tools/setup.sh --clients".
FOLDER = pathlib.Path(__file__).parents[2] / '.lab' / 'clients'

#: The last python-novaclient that has the command.
NOVA = FOLDER / 'nova-18.13.1' / 'bin' / 'nova'

#: The Python of an environment with tempest.
TEMPEST = FOLDER / 'tempest-47.0.0' / 'bin' / 'python'

#: Seconds that a command may take; only a hang takes longer.  Of a fifth of a
#: processor for all servers, the guest and the client, an image took 97 s.
PATIENCE = 600

#: Where there is neither Keystone nor Glance.
WITHOUT_KEYSTONE = """\
clouds:
  host:
    auth_type: none
    compute_endpoint_override: {url}/v2.1
    image_endpoint_override: {url}/image
    identity_api_version: '3'
    identity_endpoint_override: {url}/
"""

#: The same for a user of [api] http_basic_auth_user_file.
WITH_PASSWORD = (
    WITHOUT_KEYSTONE.replace('auth_type: none', 'auth_type: http_basic')
    + """\
    auth:
      username: {username}
      password: {password}
"""
)

#: Where Keystone's catalog has the compute service and Glance.
WITH_KEYSTONE = """\
clouds:
  host:
    auth:
      auth_url: {auth_url}
      username: {username}
      password: {password}
      project_name: {project_name}
      user_domain_id: {user_domain_id}
      project_domain_id: {project_domain_id}
    region_name: RegionOne
"""


def openstack(version: str) -> pathlib.Path:
    """Return the program of python-openstackclient of a version."""
    return FOLDER / version / 'bin' / 'openstack'


def newest_openstack() -> pathlib.Path:
    """Return the newest that is installed."""
    folders = FOLDER.glob('[0-9]*')
    newest = max(folders, key=lambda path: _numbers(path.name))
    return openstack(newest.name)


def _numbers(version: str) -> list[int]:
    return [int(word) for word in version.split('.')]


def environment(clouds: pathlib.Path) -> dict[str, str]:
    """Return variables in which the cloud of a clouds.yaml is the only one."""
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith('OS_')
    }
    return own | {'OS_CLIENT_CONFIG_FILE': str(clouds), 'OS_CLOUD': 'host'}


def nova(
    variables: Mapping[str, str], *arguments: str
) -> list[dict[str, str]]:
    """Run python-novaclient; return the rows of the table that it prints.

    :param variables: of the environment, which say where the services are.
    :raises CommandFailed: its exit status is not 0.
    :raises subprocess.TimeoutExpired: it has not ended in time.
    """
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith('OS_')
    }
    done = subprocess.run(
        [NOVA, *arguments],
        env={**own, **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    if done.returncode != 0:
        raise CommandFailed(f'{" ".join(arguments)}: {done.stderr}')
    head, *rows = (
        [cell.strip() for cell in line.strip('|').split('|')]
        for line in done.stdout.splitlines()
        if line.startswith('|')
    )
    return [dict(zip(head, row, strict=True)) for row in rows]


def properties(rows: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return what a table of properties says."""
    return {row['Property']: row['Value'] for row in rows}


class CommandFailed(Exception):
    """A command has complained, or the client has ended; says what it said."""


class Shell:
    """python-openstackclient that reads its commands from a pipe.

    A context manager.  One process for all commands saves the seconds in which
    each would import the client and log in.

    :param program: as of :func:`openstack`.
    """

    def __init__(self, program: pathlib.Path, env: Mapping[str, str]) -> None:
        self._complaints = tempfile.TemporaryFile('w+')  # noqa: SIM115
        self._process = subprocess.Popen(
            [program],
            env={**env, 'PYTHONUNBUFFERED': '1'},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._complaints.close()

    def run(self, *words: str) -> str:
        """Run a command; return what it prints.

        A command in the shell has no exit status: one that fails says why on
        the standard error, where the others say nothing.  A word may have no
        blank: the client takes no quotes here.

        :raises CommandFailed: it has said something there.
        """
        assert self._process.stdin is not None
        mark = f'the end of {words[0]}'
        self._process.stdin.write(f'{" ".join(words)}\n!echo {mark}\n')
        self._process.stdin.flush()
        watch = threading.Timer(PATIENCE, self._process.kill)
        watch.start()
        try:
            said = self._read_until(f'{mark}\n')
        finally:
            watch.cancel()
        self._complaints.seek(0)
        complaints = self._complaints.read()
        # The client writes where this process has read.
        self._complaints.seek(0)
        self._complaints.truncate()
        if said is None or complaints:
            raise CommandFailed(f'{" ".join(words)}: {said}{complaints}')
        return said

    def _read_until(self, mark: str) -> str | None:
        """Return the lines before a line; None if it never comes."""
        assert self._process.stdout is not None
        lines = []
        for line in self._process.stdout:
            if line == mark:
                return ''.join(lines)
            lines.append(line)
        return None
