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

"""Guests that are made of images."""

import dataclasses
import hashlib
import json
import os
import pathlib
import signal
import uuid

import libvirt

from nova_snap import progress as progress_lib
from nova_snap.image import api as image_api
from tests.functional import base
from tests.lab import accelerator
from tests.lab import command
from tests.lab import domain
from tests.lab import exhaustive
from tests.lab import guest as guest_lib
from tests.lab import guest_image
from tests.lab import root_disk
from tests.lab import steps

MARKER = {'/marker': b'of-the-image'}


class BootTestCase(base.SnapshotTestCase):
    """A folder for the disks of new guests, and the definition of one."""

    def setUp(self) -> None:
        super().setUp()
        self.disks = self.directory()
        self.console = self.libvirtd.state / f'{uuid.uuid4()}.console'
        self.addCleanup(self.console.unlink, missing_ok=True)
        self.name = f'new-{uuid.uuid4()}'

    def definition(self, spec: domain.Spec) -> pathlib.Path:
        """Write a definition with the hardware of a guest of the lab."""
        path = self.state_path / 'definition.xml'
        virt = accelerator.virt_type()
        image = guest_image.get()
        path.write_text(domain.render(spec, image, virt, self.console))
        return path

    def boot(self, image: str, *options: str) -> guest_lib.Guest:
        """Make a guest, which is removed after the test."""
        done = self.run_command(
            *('boot', image, self.name, '--directory', str(self.disks)),
            *('-f', 'json', *options),
        )
        return self.guest(json.loads(done.stdout)['id'])

    def guest(self, guest_uuid: str) -> guest_lib.Guest:
        disk = root_disk.RootDisk(
            root_disk.Kind.QCOW2, self.disks / 'none', 'qcow2'
        )
        spec = domain.Spec(disk=disk, name=self.name, uuid=guest_uuid)
        guest = guest_lib.Guest(self.libvirtd, spec)
        guest.serial_log = self.console
        self.addCleanup(guest.remove)
        return guest

    def known(self) -> list[str]:
        """Return the uuid of the guest with the name, if there is one."""
        with self.libvirtd.connection() as connection:
            try:
                found = connection.lookupByName(self.name)
            except libvirt.libvirtError:
                return []
            return [found.UUIDString()]

    def assert_refused(self, status: int, says: str, *words: str) -> None:
        """Check that a command fails, and leaves nothing of a guest."""
        done = self.run_command(
            *('boot', *words, self.name, '--directory', str(self.disks)),
            status=status,
        )
        self.assertIn(says, done.stderr)
        self.assert_no_guest()

    def assert_no_guest(self) -> None:
        self.assertEqual([], list(self.disks.iterdir()))
        self.assertEqual([], self.known())
        self.assert_nothing_left()

    def stored(
        self,
        path: pathlib.Path,
        disk_format: str = 'qcow2',
        **properties: str,
    ) -> str:
        """Put a file into the image service, as somebody else could."""
        record = image_api.Image(
            id=str(uuid.uuid4()),
            name='foreign',
            status='queued',
            disk_format=disk_format,
            container_format='bare',
            properties={
                key.replace('__', ':'): text
                for key, text in properties.items()
            },
        )
        self.images.create(record)
        with path.open('rb') as file:
            progress = progress_lib.Progress()
            image = self.images.upload(record.id, file, None, progress)
        digest = hashlib.sha512(path.read_bytes()).hexdigest()
        self.assertEqual(digest, image.hash_value)
        return record.id


class TestBoot(BootTestCase):
    """What is found in the new guest."""

    def test_of_two_disks(self) -> None:
        qcow2, raw = root_disk.Kind.QCOW2, root_disk.Kind.RAW
        for kinds in exhaustive.choose(
            ((qcow2, qcow2), (raw, raw), (qcow2, raw), (raw, qcow2)),
            ((qcow2, raw),),
        ):
            with self.subTest(str(kinds)):
                self.check_two_disks(*kinds)

    def check_two_disks(
        self, kind: root_disk.Kind, other: root_disk.Kind
    ) -> None:
        self.name = f'new-{uuid.uuid4()}'
        self.console.unlink(missing_ok=True)
        more = root_disk.make(self.directory(), other, 'more', files=MARKER)
        guest = self.make_guest(
            start=False, kind=kind, files=MARKER, extra_disks=(more,)
        )
        done = self.run_command(
            *('image-create', '--all-disks', guest.uuid, 'set'),
            *('-f', 'json'),
        )
        spec = dataclasses.replace(guest.spec, numbered=True)
        new = self.boot(
            json.loads(done.stdout)['id'],
            *('--definition', str(self.definition(spec))),
        )
        new.wait_until_up()
        self.assertIn('MARKER of-the-image', new.console())
        self.assertNotIn('NO-DISK', new.console())
        self.assertNotEqual(guest.uuid, new.uuid)
        self.assertEqual([new.uuid], self.known())
        self.assertEqual(
            {f'{self.name}-vda.{kind}', f'{self.name}-vdc.{other}'},
            {path.name for path in self.disks.iterdir()},
        )
        for path in self.disks.iterdir():
            self.assertEqual(1, path.stat().st_nlink)
        self.assert_nothing_left()
        new.remove()
        for path in list(self.disks.iterdir()):
            path.unlink()

    def test_like_a_server_of_this_host(self) -> None:
        guest = self.make_guest(
            start=False, kind=root_disk.Kind.QCOW2, files=MARKER, agent=True
        )
        image = self.image_create(guest)
        done = self.run_command(
            *('boot', image, self.name, '--like', guest.uuid, '-f', 'json')
        )
        new = self.guest(json.loads(done.stdout)['id'])
        path = guest.spec.disk.path.parent / f'{self.name}-vda.qcow2'
        self.addCleanup(path.unlink, missing_ok=True)
        new.wait_for(new.agent_answers, 'agent', guest_lib.BOOT_TIMEOUT)
        new.agent('guest-file-open', path='/mnt/marker', mode='r')
        self.assertIn(str(path), new.xml())
        self.assertNotIn(str(guest.serial_log), new.xml())
        self.assert_nothing_left()

    def test_hardware_that_the_image_carries(self) -> None:
        guest = self.make_guest(
            start=False,
            kind=root_disk.Kind.QCOW2,
            vnc_password='secret',
            devices_xml="<interface type='user'><model type='e1000'/>"
            "</interface><rng model='virtio'><backend model='random'>"
            '/dev/urandom</backend></rng>',
        )
        image = self.image_create(guest)
        self.assert_refused(2, "no active network 'default'", image)
        new = self.boot(image, '--network', 'none')
        self.assertEqual('running', new.state())
        for word in ('e1000', 'secret', str(guest.serial_log), '<kernel>'):
            self.assertNotIn(word, new.inactive_xml())
        self.assertIn("<rng model='virtio'>", new.inactive_xml())
        self.assert_nothing_left()


class TestLibvirtd(BootTestCase):
    """libvirtd goes away, and comes back."""

    def test_restarted(self) -> None:
        guest = self.make_guest(start=False, kind=root_disk.Kind.QCOW2)
        image = self.image_create(guest)
        for point in steps.BOOT_BREAKS:
            with self.subTest(str(point)):
                self.check_restart(point, image, guest)

    def check_restart(
        self, point: steps.Point, image: str, guest: guest_lib.Guest
    ) -> None:
        self.name = f'new-{uuid.uuid4()}'
        process, folder = self.held_command(
            *(point, 'boot', image, self.name, '--like', guest.uuid),
            *('--directory', str(self.disks)),
        )
        self.libvirtd.restart(signal.SIGKILL)
        (folder / 'go').touch()
        done = self.finish(process)
        self.assertEqual(0, done.returncode, done.stderr)
        new = self.guest(self.known()[0])
        self.assertEqual('running', new.state())
        self.assert_nothing_left()


class TestRefused(BootTestCase):
    """Images of others, and what can't be."""

    def test_images_of_others(self) -> None:
        work = self.directory()
        plain = work / 'plain'
        command.run('qemu-img', 'create', '-q', '-f', 'qcow2', plain, '64M')
        overlay = work / 'overlay'
        command.run(
            *('qemu-img', 'create', '-q', '-f', 'qcow2'),
            *('-b', '/etc/passwd', '-F', 'raw', '-u', overlay, '64M'),
        )
        large = work / 'large'
        command.run('qemu-img', 'create', '-q', '-f', 'qcow2', large, '3T')
        hardware = self.hardware()
        for path, says in ((overlay, 'backing'), (large, 'max_image_disk_gb')):
            image = self.stored(path, nova_snap__definition=hardware)
            self.assert_refused(1, says, image)
        self.assert_refused(2, '--like', self.stored(plain))
        # As the image of a server that boots from a volume of Cinder is.
        (empty := work / 'empty').touch()
        image = self.stored(empty, 'raw', nova_snap__definition=hardware)
        self.assert_refused(4, 'without data', image)
        for definition, says in (
            ('<domain>', 'no plain XML'),
            (hardware.replace("'disk'", "'cdrom'"), 'no disk'),
            (hardware.replace("'MiB'", "'TiB'"), 'memory'),
        ):
            image = self.stored(plain, nova_snap__definition=definition)
            self.assert_refused(2, says, image)
        image = self.stored(plain, nova_snap__definition=hardware)
        self.image_file(image).write_bytes(overlay.read_bytes())
        self.assert_refused(1, 'is not what its record says', image)

    def hardware(self) -> str:
        return (
            f"<domain type='{accelerator.virt_type()}'>"
            "<memory unit='MiB'>64</memory><vcpu>1</vcpu>"
            "<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>"
            '<emulator>/bin/sh</emulator>'
            "<disk type='block' device='disk'><source dev='/dev/loop0'/>"
            "<target dev='vda' bus='virtio'/></disk></devices></domain>"
        )

    def test_guest_that_cannot_be_started(self) -> None:
        guest = self.make_guest(start=False, kind=root_disk.Kind.QCOW2)
        image = self.image_create(guest)
        network = "<interface type='network'><source network='gone'/>"
        spec = dataclasses.replace(
            guest.spec, devices_xml=f'{network}</interface>'
        )
        path = str(self.definition(spec))
        self.assert_refused(1, 'start it', image, '--definition', path)

    def test_names_that_are_taken_and_a_full_disk(self) -> None:
        guest = self.make_guest(
            start=False,
            kind=root_disk.Kind.QCOW2,
            files={'/random': os.urandom(2 << 20)},
        )
        image = self.image_create(guest)
        mine = self.disks / f'{self.name}-vda.qcow2'
        mine.write_text('mine')
        words = ('boot', image, self.name, '--like', guest.uuid)
        directory = ('--directory', str(self.disks))
        self.run_command(*words, *directory, status=4)
        self.assertEqual('mine', mine.read_text())
        self.assertEqual([], self.known())
        mine.unlink()
        self.name = guest.name
        done = self.run_command(
            *('boot', image, guest.name, '--like', guest.uuid, *directory),
            status=4,
        )
        self.assertIn('named', done.stderr)
        full = self.tmpfs(1 << 20)
        self.name = f'new-{uuid.uuid4()}'
        self.run_command(
            *(*words[:2], self.name, '--like', guest.uuid),
            *('--directory', str(full)),
            status=1,
        )
        self.assertEqual([], list(full.iterdir()))


class TestKilled(BootTestCase):
    """Killed at each step: there is no guest, or a whole one."""

    def test_each_point(self) -> None:
        more = root_disk.make(self.directory(), root_disk.Kind.RAW, 'more')
        guest = self.make_guest(
            start=False, kind=root_disk.Kind.QCOW2, extra_disks=(more,)
        )
        done = self.run_command(
            *('image-create', '--all-disks', guest.uuid, 'set'),
            *('-f', 'json'),
        )
        image = json.loads(done.stdout)['id']
        for point in steps.BOOT:
            with self.subTest(str(point)):
                self.kill_at(point, image, guest)
                self.run_command('recover')
                if self.known():
                    self.check_whole(point)
                self.assert_no_guest()

    def kill_at(
        self, point: steps.Point, image: str, guest: guest_lib.Guest
    ) -> None:
        self.killed_at(
            *(point, 'boot', image, self.name, '--like', guest.uuid),
            *('--directory', str(self.disks)),
        )

    def check_whole(self, point: steps.Point) -> None:
        """Check that all of a guest is there, and remove it."""
        self.assertIn(point.step, ('define', 'start'))
        new = self.guest(self.known()[0])
        paths = sorted(self.disks.iterdir())
        self.assertEqual(
            [f'{self.name}-vda.qcow2', f'{self.name}-vdc.raw'],
            [path.name for path in paths],
        )
        if new.state() != 'running':
            with new.domain() as dom:
                dom.create()
        new.remove()
        for path in paths:
            path.unlink()
