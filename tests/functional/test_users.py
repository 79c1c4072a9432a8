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

"""The service as one user of the host, QEMU as another, neither of them root.

As on a compute host: nova and libvirt-qemu.
"""

import contextlib
import os
import pathlib
import pwd
import subprocess
import sys
import threading

from tests.functional import base
from tests.functional import faults
from tests.lab import base as lab_base
from tests.lab import disk as disk_lib
from tests.lab import guest as guest_lib
from tests.lab import libvirtd as libvirtd_lib
from tests.lab import paths

#: The number that QEMU's user has on Debian.
QEMU = 64055

#: Users that every host has: libvirt's client wants to know their names.
SERVICE = pwd.getpwnam('nobody').pw_uid
STRANGER = pwd.getpwnam('daemon').pw_uid

#: Says whether it can list a directory and open what is in it.
LOOK = """\
import os, sys
uid, path = int(sys.argv[1]), sys.argv[2]
os.setgroups([]); os.setgid(uid); os.setuid(uid)
try:
    print(os.listdir(path))
except PermissionError:
    print('no')
"""


class UsersTestCase(base.SnapshotTestCase):
    """A libvirtd of its own, whose QEMU is not our user."""

    OPTIONS = {
        'snapshot': {
            'live_method': 'pull',
            'scratch_min_mb': '0',
            'bandwidth_limit_mb': '4',
        }
    }

    #: The user of QEMU, and other lines of qemu.conf.
    QEMU_USER = f'+{QEMU}'
    QEMU_CONF = ''

    def setUp(self) -> None:
        super().setUp()
        state = paths.root() / f't{os.getpid()}u'
        libvirtd = libvirtd_lib.Libvirtd(
            state, user=self.QEMU_USER, qemu_conf=self.QEMU_CONF
        )
        self.addCleanup(libvirtd.remove)
        libvirtd.start()
        self.libvirtd = libvirtd
        self.configure()
        # QEMU has to come through to the folder that it shares with us.
        os.chown(self.state_path, SERVICE, SERVICE)
        for path in (self.state_path, *self.state_path.parents):
            if path != paths.root().parent:
                path.chmod(path.stat().st_mode | 0o011)
            else:
                break

    def running_guest(self) -> guest_lib.Guest:
        """Start a guest with enough data for seconds of snapshot."""
        guest = lab_base.new_guest(
            self.libvirtd, files={'/data': os.urandom(16 << 20)}
        )
        self.addCleanup(guest.remove)
        guest.start()
        guest.wait_until_up()
        return guest


class TestUsers(UsersTestCase):
    """What is ours and QEMU's for a while is nobody else's."""

    def test_mirror(self) -> None:
        """By root: the names of files can be seen, in a list of processes."""
        self.configure(snapshot={'live_method': 'mirror'})
        guest = self.running_guest()
        found = base.Found.of(guest)
        process = self.start(*('image-create', guest.uuid, 'image'))
        seen = set()
        while process.poll() is None:
            # A file goes at any moment, and so does the folder.
            with contextlib.suppress(FileNotFoundError):
                for path in self.snapshots.glob('*/*'):
                    seen.add((path.suffix, path.stat().st_mode & 0o077))
        self.assertEqual(0, self.finish(process).returncode)
        self.assertIn(('.delta', 0), seen)
        self.assertEqual({0}, {mode for _, mode in seen})
        self.assert_as_found(guest, found)
        self.assert_nothing_left()

    def test_pull(self) -> None:
        """By another user, with a socket and a scratch file."""
        guest = self.running_guest()
        least = guest.ticks()
        found = base.Found.of(guest)
        module = [sys.executable, '-m', 'tests.functional.as_user']
        process = subprocess.Popen(
            [*module, str(SERVICE), str(self.config), guest.uuid],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        seen: set[str] = set()
        over = threading.Event()
        watcher = threading.Thread(target=self.look, args=(seen, over))
        watcher.start()
        out, err = process.communicate(timeout=base.TIMEOUT)
        over.set()
        watcher.join()
        self.assertEqual(0, process.returncode, err)
        self.assertEqual({'no'}, seen)
        image = self.image_file(out.strip())
        self.assertEqual(SERVICE, image.stat().st_uid)
        self.assertEqual('', disk_lib.check(image))
        self.assertGreaterEqual(
            max(disk_lib.ring_numbers(image, 'qcow2')), least
        )
        self.assert_as_found(guest, found)
        self.assert_nothing_left()

    def look(self, seen: set[str], over: threading.Event) -> None:
        """See what a third user gets of the folder with the socket."""
        while not over.wait(0.2):
            for socket in self.snapshots.glob('*/nbd.sock'):
                seen.add(_look(STRANGER, socket.parent))


class TestStaticOwners(UsersTestCase):
    """libvirt changes no owners, and a guest names its user."""

    # As root, libvirtd asks QEMU only once what it can; see libvirtd.py.
    QEMU_USER = 'root'
    QEMU_CONF = 'dynamic_ownership = 0\n'
    LABEL = """<seclabel type='static' model='dac' relabel='no'>
      <label>{0}:{0}</label></seclabel>"""

    def test_every_live_path(self) -> None:
        guest = lab_base.new_guest(self.libvirtd)
        self.addCleanup(guest.remove)
        root = guest.spec.disk
        root.path.parent.chmod(0o755)
        for path in (root.path, root.backing):
            assert path is not None
            os.chown(path, STRANGER, STRANGER)
        guest.define()
        label = self.LABEL.format(pwd.getpwuid(STRANGER).pw_name)
        with self.libvirtd.connection() as connection:
            xml = guest.inactive_xml()
            domain = connection.defineXML(
                xml.replace('</domain>', f'{label}</domain>')
            )
            domain.create()
        guest.wait_until_up()
        found = base.Found.of(guest)
        for method in ('mirror', 'pull'):
            with self.subTest(method=method):
                self.configure(snapshot={'live_method': method})
                least = guest.ticks()
                image = self.image_file(self.image_create(guest))
                self.assertEqual('', disk_lib.check(image))
                self.assertGreaterEqual(
                    max(disk_lib.ring_numbers(image, 'qcow2')), least
                )
                self.assert_as_found(guest, found)
                self.assert_nothing_left()


class TestReplacedFolder(faults.FaultTestCase):
    """Another user, such as nova, owns the directory of the folders."""

    def test_link(self) -> None:
        guest = self.shared_stopped_guest()
        found = base.Found.of(guest)
        target = self.directory()
        target.chmod(0o700)
        argv = self.command('image-create', guest.uuid, 'image')
        shell = argv.index('nova_snap.cmd.shell')
        argv[shell : shell + 1] = [
            *('tests.functional.replace_folder', str(target))
        ]
        process = self.start_process(argv)
        self.assert_ended(process, 5, 'has replaced')
        self.assertEqual(0o700, target.stat().st_mode & 0o777)
        self.assertEqual([], list(target.iterdir()))
        self.assertEqual(found, base.Found.of(guest))
        done = self.run_command('recover', status=1)
        self.assertIn('symbolic link', done.stderr)
        self.assertEqual([], list(self.images.list()))


def _look(uid: int, path: pathlib.Path) -> str:
    command = [sys.executable, '-c', LOOK, str(uid), str(path)]
    return subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout.strip()
