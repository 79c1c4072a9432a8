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


"""A real Glance for tests and for the demo: SQLite, a file store, no login.

Open this file when Glance itself misbehaves in a test; what our adapter does
with its answers is in ``nova_snap/image/glance.py``.  Glance and gunicorn
come with the extra ``demo`` and run in the environment of the caller.
"""

import atexit
from importlib import metadata
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from types import TracebackType
from typing import Self
import urllib.error
import urllib.request

from tests.lab import paths

TOP = pathlib.Path(__file__).parents[2]

#: Seconds; a machine that is busy needs a while to import all of Glance.
START_TIMEOUT = 120
STOP_TIMEOUT = 15

PASTE = """\
[pipeline:glance-api]
pipeline = versionnegotiation {identity} rootapp

[composite:rootapp]
paste.composite_factory = glance.api:root_app_factory
/: apiversions
/v2: apiv2app

[app:apiversions]
paste.app_factory = glance.api.versions:create_resource

[app:apiv2app]
paste.app_factory = glance.api.v2.router:API.factory

[filter:versionnegotiation]
paste.filter_factory = glance.api.middleware.version_negotiation:\
VersionNegotiationFilter.factory

[filter:unauthenticated-context]
paste.filter_factory = glance.api.middleware.context:\
UnauthenticatedContextMiddleware.factory

[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory

[filter:service]
paste.filter_factory = tests.lab.glance_service:factory

[filter:context]
paste.filter_factory = glance.api.middleware.context:ContextMiddleware.factory
"""

CONFIGURATION = """\
[DEFAULT]
enabled_backends = file:file
log_file = {directory}/api.log
worker_self_reference_url = {url}
{extra}
[database]
connection = sqlite:///{directory}/glance.sqlite?timeout=60
[paste_deploy]
config_file = {directory}/glance-api-paste.ini
[glance_store]
default_backend = file
[file]
filesystem_store_datadir = {directory}/images
{store}
[os_glance_staging_store]
filesystem_store_datadir = {directory}/staging
[os_glance_tasks_store]
filesystem_store_datadir = {directory}/tasks
[oslo_concurrency]
lock_path = {directory}/tasks
[oslo_policy]
policy_file = {directory}/policy.yaml
"""

#: Without a login there are no roles, and every default policy wants one.
POLICY = '"context_is_admin": "@"\n"service_api": "@"\n'


class Glance:
    """A Glance on a free port.

    A context manager; what is still running when the process exits is
    stopped.  ``start`` after ``stop`` or ``kill`` goes on with the same
    images at the same address.

    :param directory: where everything is kept; made if it is missing.
    :param port: 0 takes a free one and keeps it.
    :param extra: more lines for [DEFAULT] of glance-api.conf.
    :param address: in the network of the thread that starts it.
    :param store: more lines for its file store.
    """

    #: The filters that find out who sends a request.
    IDENTITY = 'unauthenticated-context'

    POLICY = POLICY

    def __init__(
        self,
        directory: str | os.PathLike[str],
        port: int = 0,
        extra: str = '',
        address: str = '127.0.0.1',
        store: str = '',
    ) -> None:
        self.address = address
        self.directory = pathlib.Path(directory).absolute()
        self.port = port
        self._extra = extra
        self._store = store
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The endpoint, without a version."""
        return f'http://{self.address}:{self.port}'

    def nova_snap_conf(self) -> str:
        """Return the section of nova_snap.conf for this Glance."""
        return f'[glance]\nauth_type = none\nendpoint_override = {self.url}\n'

    def start(self) -> None:
        """Return once Glance answers; RuntimeError with its log if not."""
        with socket.create_server((self.address, self.port)) as listener:
            self.port = listener.getsockname()[1]
            self._configure()
            self._process = self._spawn(listener.fileno())
        atexit.register(self.kill)
        self._wait_until_ready()

    def stop(self) -> None:
        """End it in order; requests that are running may finish."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it and its workers at once, in the middle of anything."""
        self._end(signal.SIGKILL)

    def leave_running(self) -> None:
        """Let it outlive this process; ``adopt`` finds it again."""
        assert self._process is not None
        atexit.unregister(self.kill)
        self._write('left', f'{self._process.pid} {self.port}')

    def adopt(self) -> bool:
        """Use the one that an earlier process left running, if it does."""
        try:
            pid, port = (self.directory / 'left').read_text().split()
            if os.readlink(f'/proc/{pid}/cwd') != str(self.directory):
                return False  # somebody else has that number now
        except (OSError, ValueError):
            return False
        self.port = int(port)
        return self._answers()

    def end_left(self) -> None:
        """End the one that an earlier process left running."""
        if self.adopt():
            pid = int((self.directory / 'left').read_text().split()[0])
            os.killpg(pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _configure(self) -> None:
        for name in ('images', 'staging', 'tasks'):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        paste = PASTE.format(identity=self.IDENTITY)
        self._write('glance-api-paste.ini', paste)
        self._write('policy.yaml', self.POLICY)
        self._write(
            'glance-api.conf',
            CONFIGURATION.format(
                directory=self.directory,
                url=self.url,
                extra=self._extra,
                store=self._store,
            ),
        )
        if not (self.directory / 'synced').exists():
            self._make_database()
            self._write('synced', '')

    def _write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text, encoding='utf-8')

    def _make_database(self) -> None:
        """Make a new database, or copy the one that another lab has made.

        A program that imports all of Glance would make it for each.
        """
        made = self.directory / 'glance.sqlite'
        version = metadata.version('glance')
        kept = paths.cache() / f'glance-{version}.sqlite'
        with paths.locked('glance'):
            if kept.exists():
                shutil.copyfile(kept, made)
                return
            self._sync_database()
            copied = shutil.copyfile(made, kept.with_suffix('.new'))
            copied.replace(kept)

    def _sync_database(self) -> None:
        manage = pathlib.Path(sys.executable).with_name('glance-manage')
        config = str(self.directory / 'glance-api.conf')
        done = subprocess.run(
            [str(manage), '--config-file', config, 'db_sync'],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(done.stdout.decode(errors='replace'))

    def _spawn(self, fd: int) -> subprocess.Popen[bytes]:
        """Start gunicorn on the listening socket, in a session of its own.

        It inherits the socket, so a client may connect before it is up and
        no other program can take the port in between.
        """
        with open(self.directory / 'server.log', 'ab') as log:
            return subprocess.Popen(
                [
                    *(sys.executable, '-m', 'gunicorn'),
                    *('--bind', f'fd://{fd}', '--workers', '1'),
                    *('--threads', '8', '--timeout', '600'),
                    *('--graceful-timeout', '5'),
                    *('--pythonpath', str(TOP)),
                    'tests.lab.glance_wsgi:application',
                ],
                cwd=self.directory,
                env=os.environ
                | {
                    'OS_GLANCE_CONFIG_DIR': str(self.directory),
                    # Where gunicorn puts its control socket.
                    'XDG_RUNTIME_DIR': str(self.directory),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(fd,),
                start_new_session=True,
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not self._answers():
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f'Glance did not start:\n{self.log()}')
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f'{self.url}/v2/images', timeout=30):
                return True
        except urllib.error.HTTPError as error:
            return self._may_answer(error.code)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def _may_answer(self, status: int) -> bool:
        """Return True if an error is what Glance answers once it is ready."""
        return False

    def log(self) -> str:
        """Return the last lines of both logs."""
        lines = []
        for name in ('server.log', 'api.log'):
            path = self.directory / name
            if path.exists():
                text = path.read_text(encoding='utf-8', errors='replace')
                lines += text.splitlines()[-40:]
        return '\n'.join(lines)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        atexit.unregister(self.kill)
        if process is None or process.poll() is not None:
            return
        os.killpg(process.pid, number)
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
