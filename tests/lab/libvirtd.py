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

"""A libvirtd of the lab's own, which no other libvirt of the host notices.

It runs in a mount namespace in which the lab's directories lie over
``/etc/libvirt``, ``/run/libvirt`` and their kin, so its configuration, its
domains and its sockets are its own; it is reached by the path of its socket.
As on any host, guests outlive their libvirtd.

What a test mounts below :attr:`Libvirtd.mounts` appears in the namespaces of
libvirtd and of guests that run already (propagation is ``slave``, and
``namespaces = []`` keeps QEMU from getting a namespace of its own).

There is no virtlogd: QEMU writes the serial logs itself, so that nothing
stands between a guest's line and the clock that times it.
"""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import time
from typing import Self
import zlib

import libvirt

from tests.lab import command
from tests.lab import paths

#: Bytes that fit into a socket's address (struct sockaddr_un), less the NUL.
MAX_SOCKET_PATH = 107

#: The lab's directories, and what each lies over.
OVERLAID = {
    'etc': '/etc/libvirt',
    'run': '/run/libvirt',
    'lib': '/var/lib/libvirt',
    'cache': '/var/cache/libvirt',
    'log': '/var/log/libvirt',
    'swtpm': '/var/log/swtpm',
}

#: Where libvirtd keeps what QEMU told it about itself.
CAPABILITIES = '/var/cache/libvirt/qemu'

USER = 'libvirt-qemu'

KVM = '/dev/kvm'

QEMU_CONF = """\
user = "{user}"
group = "{group}"
security_driver = "none"
remember_owner = 0
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
remote_display_port_min = {first_port}
remote_display_port_max = {last_port}
"""

#: Ports for the displays of the guests of one lab.  libvirt looks for a free
#: one, and two that look at the same time find the same.
PORTS = 64

#: libvirt takes no lower one for a display.
FIRST_PORT = 5900

LIBVIRTD_CONF = """\
auth_unix_rw = "none"
auth_unix_ro = "none"
unix_sock_rw_perms = "0777"
log_outputs = "2:stderr"
"""


def _mount_points() -> list[str]:
    """Of this process; os.path.ismount() does not see bind mounts."""
    table = pathlib.Path('/proc/self/mountinfo').read_text()
    return [line.split()[4] for line in table.splitlines()]


class LibvirtdFailed(Exception):
    """libvirtd did not start; the message has the end of its log."""


class Libvirtd:
    """A private libvirtd that keeps everything in one state directory.

    :param state: short enough that a socket's path fits (107 bytes).
    :param user: that QEMU runs as; a number behind a plus sign needs no name.
    :param qemu_conf: lines of qemu.conf besides those of the lab.
    """

    def __init__(
        self, state: pathlib.Path, user: str = 'root', qemu_conf: str = ''
    ) -> None:
        self.state = state
        self._user = user
        self._more_qemu_conf = qemu_conf
        self.mounts = state / 'mnt'
        self.log = state / 'libvirtd.log'
        self._libvirt = state / 'libvirt'
        self._pid_file = state / 'libvirtd.pid'
        self._socket = self._libvirt / 'run/libvirt-sock'
        if len(os.fsencode(self._socket)) > MAX_SOCKET_PATH:
            raise ValueError(
                f'{self._socket} is too long for a socket; '
                'set NOVA_SNAP_LAB to a shorter directory'
            )

    @property
    def uri(self) -> str:
        """What ``virsh -c`` and ``[libvirt] connection_uri`` take."""
        return f'qemu+unix:///system?socket={self._socket}'

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @contextlib.contextmanager
    def connection(self) -> Iterator[libvirt.virConnect]:
        """Open a connection for the block; a restart would break it."""
        # libvirt prints each error, expected ones too, where nobody listens.
        libvirt.registerErrorHandler(lambda context, error: None, None)
        connection = libvirt.open(self.uri)
        try:
            yield connection
        finally:
            connection.close()

    def pid(self) -> int | None:
        """Return the process id, or None if libvirtd does not run."""
        try:
            pid = int(self._pid_file.read_text())
            words = pathlib.Path(f'/proc/{pid}/cmdline').read_bytes()
        except (FileNotFoundError, ValueError, ProcessLookupError):
            return None
        ours = os.fsencode(self._pid_file) in words.split(b'\0')
        return pid if ours else None

    def is_running(self) -> bool:
        """Whether the process is there; it may not answer."""
        return self.pid() is not None

    def start(self, timeout: float = 60) -> None:
        """Start it and wait until it answers; one that runs is left alone.

        :param timeout: seconds.
        :raises LibvirtdFailed: it ended or did not answer in time.
        """
        process = None
        if not self.is_running():
            self._prepare()
            process = self._launch()
        self._wait_until_it_answers(process, timeout)

    def kill(self, signum: int = signal.SIGKILL, timeout: float = 30) -> None:
        """End libvirtd and wait for its end; the guests go on."""
        pid = self.pid()
        if pid is None:
            return
        os.kill(pid, signum)
        deadline = time.monotonic() + timeout
        while self.is_running():
            if time.monotonic() > deadline:
                raise LibvirtdFailed(f'{pid} did not end in {timeout} s')
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            time.sleep(0.02)

    def restart(self, signum: int = signal.SIGTERM) -> None:
        """Restart libvirtd, as an upgrade does; the guests run on."""
        self.kill(signum)
        self.start()

    def stop(self) -> None:
        """End libvirtd and every guest, and unmount what was mounted."""
        self.kill(signal.SIGTERM)
        for pid in self._guests():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while self._guests() and time.monotonic() < deadline:
            time.sleep(0.02)
        self._unmount()

    def remove(self) -> None:
        """Stop, and delete the state directory."""
        self.stop()
        self._detach_loop_devices()
        shutil.rmtree(self.state, ignore_errors=True)

    def _detach_loop_devices(self) -> None:
        columns = command.run(
            *('losetup', '--list', '--noheadings'),
            *('--output', 'NAME,BACK-FILE'),
        ).stdout
        for line in columns.splitlines():
            device, _, file = line.partition(' ')
            if file.strip().startswith(f'{self.state}/'):
                command.run('losetup', '--detach', device)

    def qemu_pid_file(self, name: str) -> pathlib.Path:
        """Return the file with the process id of a guest's QEMU."""
        return self._libvirt / 'run/qemu' / f'{name}.pid'

    def save_file(self, name: str) -> pathlib.Path:
        """Return the file of a guest's managed save."""
        return self._libvirt / 'lib/qemu/save' / f'{name}.save'

    def _guests(self) -> list[int]:
        """Return the QEMU processes of this lab that are alive."""
        found = []
        for file in self._libvirt.glob('run/qemu/*.pid'):
            with contextlib.suppress(OSError, ValueError):
                pid = int(file.read_text())
                words = pathlib.Path(f'/proc/{pid}/cmdline').read_bytes()
                if os.fsencode(self.state) in words:
                    found.append(pid)
        return found

    def _prepare(self) -> None:
        for name in OVERLAID:
            (self._libvirt / name).mkdir(parents=True, exist_ok=True)
        self._add_user()
        (self._libvirt / 'cache/qemu').mkdir(exist_ok=True)
        # Where the driver of networks writes.
        (self._libvirt / 'lib/dnsmasq').mkdir(exist_ok=True)
        (paths.cache() / 'qemu').mkdir(exist_ok=True)
        etc = self._libvirt / 'etc'
        (etc / 'qemu.conf').write_text(self._qemu_conf())
        (etc / 'libvirtd.conf').write_text(LIBVIRTD_CONF)
        self.mounts.mkdir(exist_ok=True)
        if str(self.mounts) not in _mount_points():
            command.run('mount', '--bind', self.mounts, self.mounts)
            command.run('mount', '--make-shared', self.mounts)

    def _qemu_conf(self) -> str:
        group = self._user
        # Not root's group, as in a container: its members would not get into
        # folders that others may enter.
        if group != 'root' and os.path.exists(KVM) and os.stat(KVM).st_gid:
            # As distributions have it.  A user who may not open it makes
            # libvirt ask QEMU anew what it can, for every request.
            group = f'+{os.stat(KVM).st_gid}'
        labs = (2**16 - FIRST_PORT) // PORTS
        number = zlib.crc32(os.fsencode(self.state)) % labs
        first_port = FIRST_PORT + number * PORTS
        lines = QEMU_CONF.format(
            user=self._user,
            group=group,
            first_port=first_port,
            last_port=first_port + PORTS - 1,
        )
        return lines + self._more_qemu_conf

    def _add_user(self) -> None:
        """Give the namespace the user that Debian's libvirt insists on.

        The package that makes it on the host would make libvirtd a service
        of the host, too.
        """
        for name, entry in (
            ('passwd', f'{USER}:x:64055:64055::/var/lib/libvirt:/bin/false'),
            ('group', f'{USER}:x:64055:'),
        ):
            lines = pathlib.Path(f'/etc/{name}').read_text().splitlines()
            if not any(line.startswith(f'{USER}:') for line in lines):
                lines.append(entry)
            (self._libvirt / name).write_text('\n'.join(lines) + '\n')

    def _launch(self) -> subprocess.Popen[bytes]:
        for target in OVERLAID.values():
            pathlib.Path(target).mkdir(parents=True, exist_ok=True)
        steps = [
            f'mount --bind "$1/{name}" {target} || exit 1'
            for name, target in OVERLAID.items()
        ]
        steps += [
            f'mount --bind "$1/{file}" /etc/{file} || exit 1'
            for file in ('passwd', 'group')
        ]
        # Asking QEMU what it can takes seconds: the labs share the answer.
        steps.append(f'mount --bind "$3" {CAPABILITIES} || exit 1')
        # Without D-Bus it can't register its guests with the host's machined.
        steps.append('[ ! -d /run/dbus ] || mount -t tmpfs lab /run/dbus')
        steps.append('exec libvirtd -f /etc/libvirt/libvirtd.conf -p "$2"')
        with open(self.log, 'ab') as log:
            return subprocess.Popen(
                ['unshare', '--mount', '--propagation', 'slave']
                + ['sh', '-c', '\n'.join(steps), 'sh']
                + [self._libvirt, self._pid_file, paths.cache() / 'qemu'],
                env=command.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _wait_until_it_answers(
        self, process: subprocess.Popen[bytes] | None, timeout: float
    ) -> None:
        deadline = time.monotonic() + timeout
        while True:
            try:
                with self.connection():
                    return
            except libvirt.libvirtError as error:
                ended = process is not None and process.poll() is not None
                if ended or time.monotonic() > deadline:
                    raise LibvirtdFailed(
                        f'{error}\n{self.log.read_text()[-4000:]}'
                    ) from error
            time.sleep(0.05)

    def _unmount(self) -> None:
        """Unmount all below :attr:`mounts`, the innermost first."""
        below = f'{self.mounts}/'
        for point in sorted(_mount_points(), reverse=True):
            if point == str(self.mounts) or point.startswith(below):
                command.run('umount', '--lazy', point)
