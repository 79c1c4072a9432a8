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

"""What the tests of faults share: guests with data, slowness, the outcome.

Open this file to write another ``test_faults_*.py``.  Each test breaks one
thing in the middle of a snapshot and then asks three questions: what was a
person told, is the guest as it was found, and is nothing left?
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import os
import pathlib
import re
import subprocess
import tempfile
import time
from typing import Any

import libvirt

from nova_snap.image import api as image_api
from tests.functional import base
from tests.functional.image import base as image_base
from tests.lab import command as lab_command
from tests.lab import disk as disk_lib
from tests.lab import domain as domain_lib
from tests.lab import fault_proxy
from tests.lab import guest as guest_lib
from tests.lab import root_disk
from tests.lab import steps

MIB = 1 << 20

#: Random bytes on the root disks: what has to be copied.
FILLER = 32 * MIB

#: MiB per second that make that take several seconds.  A guest that ticks
#: writes about as much, so what shall end has to be hurried in the end.
SLOW = 10

COLD = {'workarounds': {'disable_libvirt_livesnapshot': 'true'}}

_LOG_LINE = re.compile(r'\[[^]]*\] (\w+) +(\S+) (.*)')

#: Guests that all tests of the process share, by their description.
_shared: dict[str, guest_lib.Guest] = {}


def _rest(guest: guest_lib.Guest) -> None:
    with contextlib.suppress(libvirt.libvirtError):
        if guest.state() == 'running':
            guest.suspend()


def _wake(guest: guest_lib.Guest) -> bool:
    if guest.state() == 'paused':
        guest.resume()
    return guest.is_ticking()


@dataclasses.dataclass(frozen=True)
class LogLine:
    """A line of the log file."""

    level: str
    logger: str
    text: str


@dataclasses.dataclass(frozen=True)
class Ended:
    """A command that has ended: its status and what it said.

    :ivar message: the sentences that a person reads at the end.
    :ivar log: what the project logged, without that message.
    """

    status: int
    message: str
    log: tuple[LogLine, ...]
    err: str

    @property
    def errors(self) -> list[str]:
        """What was logged as an error."""
        return [line.text for line in self.log if line.level == 'ERROR']


class FaultTestCase(base.SnapshotTestCase):
    """A test that lets something go wrong."""

    #: MiB per second of mirror and conversion; None: as fast as they are.
    speed: int | None = None

    def setUp(self) -> None:
        super().setUp()
        self.log_file = self.state_path / 'nova-snap.log'

    def command(self, *arguments: str) -> list[str]:
        """As the base has it, with a log and maybe slowly."""
        argv = super().command(*arguments)
        if self.speed is not None:
            shell = argv.index('nova_snap.cmd.shell')
            argv[shell : shell + 1] = [
                'tests.functional.slowly',
                str(self.speed),
            ]
        argv.insert(argv.index('-v'), f'--log-file={self.log_file}')
        return argv

    # Guests ---------------------------------------------------------------

    def shared_guest(
        self, kind: root_disk.Kind = root_disk.Kind.QCOW2, **spec: Any
    ) -> guest_lib.Guest:
        """Return a running guest with FILLER that all test classes share.

        Between the tests that use it, it is paused: all that wait would take
        half a processor.  One that an earlier test left in another state is
        replaced.
        """
        key = repr((kind, sorted(spec.items())))
        guest = _shared.get(key)
        if guest is not None and not _wake(guest):
            guest.remove()
            guest = None
        if guest is None:
            guest = _shared[key] = self.filled_guest(kind, **spec)
            guest.start()
            guest.wait_until_up()
        self.addCleanup(_rest, guest)
        return guest

    def shared_stopped_guest(self, number: int = 0) -> guest_lib.Guest:
        """Return a shared guest that has never run.

        :param number: another one for each.
        """
        key = f'stopped {number}'
        if key not in _shared:
            _shared[key] = self.filled_guest()
            _shared[key].define()
        return _shared[key]

    def own_guest(
        self,
        start: bool = True,
        kind: root_disk.Kind = root_disk.Kind.QCOW2,
        **spec: Any,
    ) -> guest_lib.Guest:
        """Make a guest with FILLER for one test that changes it."""
        guest = self.filled_guest(kind, **spec)
        self.addCleanup(guest.remove)
        if start:
            guest.start()
            guest.wait_until_up()
        else:
            guest.define()
        return guest

    def filled_guest(
        self, kind: root_disk.Kind = root_disk.Kind.QCOW2, **spec: Any
    ) -> guest_lib.Guest:
        """Make a guest with FILLER that is not defined yet."""
        disk = root_disk.make(
            guest_lib.disks_directory(self.libvirtd),
            kind,
            name=f'root-{os.urandom(4).hex()}',
            size=128 * MIB,
            files={'/filler': os.urandom(FILLER)},
        )
        return guest_lib.Guest(
            self.libvirtd, domain_lib.Spec(disk=disk, **spec)
        )

    def small_file_system(self, size: int) -> pathlib.Path:
        """Mount an ext4 with O_DIRECT that running guests see.

        The lab's tmpfs does not take O_DIRECT.
        """
        point = pathlib.Path(tempfile.mkdtemp(dir=self.libvirtd.mounts))
        self.addCleanup(point.rmdir)
        file = self.directory() / 'small.img'
        with open(file, 'wb') as stream:
            stream.truncate(size)
        lab_command.run('mkfs.ext4', '-q', '-F', '-m', '0', file)
        lab_command.run('mount', '-o', 'loop', file, point)
        self.addCleanup(lab_command.run, 'umount', '--lazy', point)
        return point

    # A snapshot and its moments -------------------------------------------

    def begin(
        self,
        guest: guest_lib.Guest,
        *arguments: str,
        speed: int | None = SLOW,
        **options: Any,
    ) -> subprocess.Popen[str]:
        """Begin a snapshot that takes a while."""
        self.speed = speed
        self.log_file.unlink(missing_ok=True)
        self.addCleanup(setattr, self, 'speed', None)
        return self.start(
            'image-create', guest.uuid, 'image', *arguments, **options
        )

    @contextlib.contextmanager
    def held_at(
        self, point: steps.Point, guest: guest_lib.Guest
    ) -> Iterator[subprocess.Popen[str]]:
        """Begin a snapshot that waits at a point for the end of the block."""
        folder = self.directory()
        argv = base.SnapshotTestCase.command(
            self, 'image-create', guest.uuid, 'image'
        )
        shell = argv.index('nova_snap.cmd.shell')
        argv[shell : shell + 1] = [
            *('tests.functional.hold_at', str(folder)),
            *(point.moment, point.function),
        ]
        self.log_file.unlink(missing_ok=True)
        argv.insert(argv.index('-v'), f'--log-file={self.log_file}')
        process = self.start_process(argv)
        self.wait_until(process, (folder / 'held').exists)
        yield process
        (folder / 'go').touch()

    def wait_until(
        self,
        process: subprocess.Popen[str],
        condition: Callable[[], bool],
        timeout: float = 60,
    ) -> None:
        """Wait for a moment that comes while the command runs."""
        deadline = time.monotonic() + timeout
        while not condition():
            if process.poll() is not None:
                self.fail(f'It has ended: {self.ended(process).err}')
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def wait_for_copying(
        self, process: subprocess.Popen[str], guest: guest_lib.Guest
    ) -> None:
        """Wait until the mirror has copied something."""
        self.wait_until(process, lambda: _has_copied(guest))

    @staticmethod
    def hurry(guest: guest_lib.Guest) -> None:
        """Let a slow mirror that is still running go on at full speed."""
        with contextlib.suppress(libvirt.libvirtError), guest.domain() as dom:
            dom.blockJobSetSpeed(guest.target, 0)

    def wait_for_qemu_img(
        self, process: subprocess.Popen[str], verb: str = 'convert'
    ) -> None:
        """Wait until a qemu-img of the snapshot is at work."""

        def is_at_work() -> bool:
            lines = base.programs(self.state_path)
            return any(f'qemu-img {verb}' in line for line in lines)

        self.wait_until(process, is_at_work)

    # What came of it ------------------------------------------------------

    def ended(self, process: subprocess.Popen[str]) -> Ended:
        """Wait for the end of a command."""
        done = self.finish(process)
        said: list[str] = []
        log: list[LogLine] = []
        for text in self._log_text().splitlines():
            found = _LOG_LINE.match(text)
            if found is None:
                continue
            line = LogLine(*found.groups())
            if '.' not in line.logger:  # the command's own
                said.append(line.text)
            else:
                log.append(line)
        return Ended(done.returncode, '\n'.join(said), tuple(log), done.stderr)

    def _log_text(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return self.log_file.read_text()
        return ''

    def assert_ended(
        self, process: subprocess.Popen[str], status: int, *patterns: str
    ) -> Ended:
        """Check that a command ended with a status and these patterns."""
        ended = self.ended(process)
        self.assertEqual(status, ended.status, ended.err)
        self.assertNotIn('Traceback', ended.err)
        if patterns:
            self.assertEqual(1, len(ended.message.splitlines()), ended.err)
        for pattern in patterns:
            self.assertRegex(ended.message, pattern)
        return ended

    def snapshot_fails(
        self, guest: guest_lib.Guest, status: int, *patterns: str
    ) -> Ended:
        """Take a snapshot at full speed that has to fail."""
        process = self.begin(guest, speed=None)
        return self.assert_ended(process, status, *patterns)

    def assert_image_right(
        self, image: pathlib.Path, ticks: int, image_format: str = 'qcow2'
    ) -> None:
        """Check that an image has all data synced before ``ticks``."""
        if image_format == 'qcow2':
            self.assertEqual('', disk_lib.check(image))
        found = disk_lib.file_system(image, image_format, replay_journal=True)
        self.assertTrue(found.clean, found.report)
        if ticks:  # else it never ran
            numbers = disk_lib.ring_numbers(image, image_format)
            self.assertGreaterEqual(max(numbers), ticks)

    def the_image(self) -> pathlib.Path:
        """Return the data file of the only image of the embedded service."""
        (image,) = self.images.list()
        self.assertEqual('active', image.status)
        return self.image_file(image.id)


class GlanceFaultTestCase(FaultTestCase):
    """Snapshots into a real Glance, behind a proxy that fails as told.

    The server is shut off, so that a snapshot takes little time: what is sent
    to Glance is the same.
    """

    #: Of [glance], in seconds.
    TIMEOUT = 30
    RETRIES = 2

    def setUp(self) -> None:
        super().setUp()
        self.glance = image_base.real_glance()
        self.proxy = fault_proxy.FaultProxy(self.glance.url)
        self.proxy.start()
        self.addCleanup(self.proxy.stop)
        self.configure_glance()

    def configure_glance(self, **sections: dict[str, str]) -> None:
        """As ``configure``, with images in Glance."""
        snapshot = {
            'image_service': 'glance',
            'cancel_check_interval': '1',
            **sections.pop('snapshot', {}),
        }
        glance = {
            'auth_type': 'none',
            'endpoint_override': self.proxy.url,
            'timeout': str(self.TIMEOUT),
            'num_retries': str(self.RETRIES),
        }
        self.configure(snapshot=snapshot, glance=glance, **sections)

    def direct(self) -> image_base.glance.GlanceImageService:
        """Glance without the proxy."""
        conf = image_base.make_conf(
            str(self.directory()), self.glance.nova_snap_conf()
        )
        return image_base.glance.GlanceImageService.from_conf(conf)

    def records(self, guest: guest_lib.Guest) -> list[image_api.Image]:
        """Return the image records of a guest in Glance."""
        service = self.direct()
        found = list(service.list(instance_uuid=guest.uuid))
        for image in found:
            self.addCleanup(service.delete, image.id)
        return found

    def glance_file(self, image_id: str) -> pathlib.Path:
        """Return the data file of an image in Glance."""
        return self.glance.directory / 'images' / image_id

    def assert_no_record(self, guest: guest_lib.Guest) -> None:
        """Glance has nothing of a guest."""
        self.assertEqual([], self.records(guest))


def _has_copied(guest: guest_lib.Guest) -> bool:
    jobs = guest.block_jobs().values()
    return any(job['cur'] > MIB for job in jobs)
