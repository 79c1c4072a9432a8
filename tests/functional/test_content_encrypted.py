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

"""Root disks that QEMU encrypts: the image is what the guest sees.

The passphrase is libvirt's secret.  It may not be seen in the arguments of a
process, in a log, or in a file that is left.
"""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import threading
import time
import uuid

from tests.functional import content
from tests.lab import command
from tests.lab import disk
from tests.lab import event_watch
from tests.lab import guest as guest_lib
from tests.lab import root_disk

SECRET_XML = """<secret ephemeral='no' private='no'>
  <uuid>{}</uuid>
  <usage type='volume'><volume>{}</volume></usage>
</secret>"""

ENCRYPTION_XML = """<encryption format='luks'>
  <secret type='passphrase' uuid='{}'/>
</encryption>"""


#: A base image that QEMU encrypts, below a disk.
BACKING_XML = """<backingStore type='file'>
  <format type='raw'/>
  <source file='{}'>{}</source>
  <backingStore/>
</backingStore>"""


class EncryptedTestCase(content.ContentTestCase):
    """A plain disk to be encrypted, and libvirt's secret for it."""

    def setUp(self) -> None:
        super().setUp()
        # Odd on purpose: it must not matter what a passphrase is made of.
        self.passphrase = f'p, =w\u00e9 "{os.urandom(8).hex()}"'
        self.plain = root_disk.make(
            self.directory(), root_disk.Kind.RAW, files={'/marker': b'seen\n'}
        )
        self.secret = self.new_secret(self.passphrase)

    def new_secret(self, passphrase: str) -> str:
        """Define a secret of libvirt for the length of the test."""
        secret_id = str(uuid.uuid4())
        usage = f'{self.plain.path}-{secret_id}'
        with self.libvirtd.connection() as connection:
            secret = connection.secretDefineXML(
                SECRET_XML.format(secret_id, usage)
            )
            secret.setValue(passphrase.encode())
        self.addCleanup(self.forget_secret, secret_id)
        return secret_id

    def forget_secret(self, secret_id: str) -> None:
        with self.libvirtd.connection() as connection:
            connection.secretLookupByUUIDString(secret_id).undefine()

    def encrypted_guest(self, image_format: str) -> guest_lib.Guest:
        """Define a guest with the plain disk's content, encrypted.

        :param image_format: as of :meth:`encrypted_disk`.
        """
        return self.make_guest(
            disk=self.encrypted_disk(image_format),
            disk_xml=ENCRYPTION_XML.format(self.secret),
            start=False,
        )

    def encrypted_disk(self, image_format: str) -> root_disk.RootDisk:
        """Make a disk with the plain disk's content, encrypted.

        :param image_format: ``luks``, or ``qcow2`` with LUKS in it.
        """
        key = self.plain.path.with_name('key')
        key.write_text(self.passphrase)
        target = self.plain.path.with_name(f'root.{image_format}')
        options = 'key-secret=key,iter-time=10'
        if image_format == 'qcow2':
            options = 'encrypt.format=luks,' + ','.join(
                f'encrypt.{option}' for option in options.split(',')
            )
        self.convert(
            *('--object', f'secret,id=key,file={key}'),
            *('-f', 'raw', '-O', image_format, '-o', options),
            *(self.plain.path, target),
        )
        key.unlink()
        kind = (
            root_disk.Kind.QCOW2
            if image_format == 'qcow2'
            else root_disk.Kind.RAW
        )
        return root_disk.RootDisk(kind, target, str(kind))

    @staticmethod
    def convert(*arguments: str | os.PathLike[str]) -> None:
        """Run qemu-img; it times the processor, and fails on a busy one."""
        for _ in range(10):
            done = command.run(
                'qemu-img', 'convert', *arguments, accept=(0, 1)
            )
            if 'Unable to get accurate CPU usage' not in done.stdout:
                break
        if done.returncode != 0:
            raise command.CommandFailed(done.stdout)

    def check(self, guest: guest_lib.Guest) -> None:
        """Check images of a guest with the plain disk's content."""
        with self.watched_arguments() as arguments:
            off = self.take(guest, 'read')
            guest.start()
            guest.wait_until_up()
            before = guest.ticks()
            running = self.take(guest, 'cold')
            guest.destroy()
        self.assertEqual(
            '',
            disk.differences(off.path, off.format, self.plain.path, 'raw'),
        )
        size = self.plain.path.stat().st_size
        info = disk.info(off.path, off.format)
        self.assertEqual(size, info['virtual-size'])
        self.assertNotIn('encrypted', info)
        self.assertEqual(1, off.record.min_disk)
        self.assert_one_moment(running, before)
        self.assert_not_seen(arguments)

    @contextlib.contextmanager
    def watched_arguments(self) -> Iterator[set[bytes]]:
        """Collect the arguments of all processes during the block.

        So are the first bytes of all temporary files.
        """
        seen: set[bytes] = set()
        ended = threading.Event()

        def watch() -> None:
            while not ended.is_set():
                for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
                    with contextlib.suppress(OSError):
                        seen.add(path.read_bytes())
                for path in self.snapshots.glob('*/*'):
                    with contextlib.suppress(OSError), path.open('rb') as file:
                        seen.add(file.read(100))
                time.sleep(0.005)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield seen
        finally:
            ended.set()
            thread.join()

    def assert_not_seen(self, arguments: set[bytes]) -> None:
        words = self.passphrase.encode()
        programs = b'\n'.join(arguments)
        self.assertIn(b'qemu-img\0convert', programs)
        self.assertNotIn(words, programs)
        for details in self.getDetails().values():
            self.assertNotIn(words, b''.join(details.iter_bytes()))
        for path in self.state_path.rglob('*'):
            if path.is_file():
                self.assertNotIn(words, path.read_bytes(), path)
        log = self.libvirtd.log.read_bytes()
        self.assertNotIn(words, log)

    def assert_fails(self, guest: guest_lib.Guest, says: str) -> None:
        """Check that a snapshot fails with this message."""
        done = self.run_command('image-create', guest.uuid, 'i', status=1)
        self.assertIn(says, done.stderr.splitlines()[-1])
        self.assert_nothing_left()


class TestEncrypted(EncryptedTestCase):
    """Each goes cold by itself."""

    def test_qcow2(self) -> None:
        self.check(self.encrypted_guest('qcow2'))

    def test_raw(self) -> None:
        self.check(self.encrypted_guest('luks'))

    def test_further_disk(self) -> None:
        """Of a set, the image of an encrypted disk is what the guest sees."""
        guest = self.make_guest(
            extra_disks=(self.encrypted_disk('luks'),),
            extra_xml=ENCRYPTION_XML.format(self.secret),
            start=False,
        )
        with self.watched_arguments() as arguments:
            image = self.take_all(guest, 'read')['vdc']
        self.assertEqual(
            '',
            disk.differences(image.path, image.format, self.plain.path, 'raw'),
        )
        self.assert_not_seen(arguments)

    def test_secret_that_can_not_be_used(self) -> None:
        guest = self.encrypted_guest('qcow2')
        usage = f'{self.plain.path}-{self.secret}'
        xml = SECRET_XML.format(self.secret, usage)
        private = xml.replace("private='no'", "private='yes'")
        with self.libvirtd.connection() as connection:
            secret = connection.secretLookupByUUIDString(self.secret)
            secret.setValue(b'another one')
            self.assert_fails(guest, 'Invalid password')
            secret.undefine()
            secret = connection.secretDefineXML(xml)
            self.assert_fails(guest, 'read the secret of an encrypted disk')
            secret.undefine()
            connection.secretDefineXML(private)
            self.assert_fails(guest, 'is private')


class TestLayers(EncryptedTestCase):
    """An encrypted overlay over an encrypted base, each with a secret."""

    def setUp(self) -> None:
        super().setUp()
        self.base_secret = self.new_secret(f'base of {self.passphrase}')
        self.base_key = self.plain.path.with_name('base-key')
        self.base_key.write_text(f'base of {self.passphrase}')
        self.base = self.plain.path.with_name('base.luks')
        self.convert(
            *('--object', f'secret,id=key,file={self.base_key}'),
            *('-f', 'raw', '-O', 'luks', '-o', 'key-secret=key,iter-time=10'),
            *(self.plain.path, self.base),
        )
        self.base_key.unlink()

    def overlay(self, *options: str | os.PathLike[str]) -> root_disk.RootDisk:
        """Make an overlay over the encrypted base."""
        path = self.plain.path.with_name('top.qcow2')
        command.run(
            *('qemu-img', 'create', '-q', '-f', 'qcow2', *options, '-u'),
            *('-b', self.base, '-F', 'luks', path),
            str(self.plain.path.stat().st_size),
        )
        return root_disk.RootDisk(root_disk.Kind.QCOW2, path, 'qcow2')

    def test_one_secret_a_layer(self) -> None:
        key = self.plain.path.with_name('key')
        key.write_text(self.passphrase)
        top = self.overlay(
            *('--object', f'secret,id=key,file={key}', '-o'),
            'encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10',
        )
        key.unlink()
        below = BACKING_XML.format(
            self.base, ENCRYPTION_XML.format(self.base_secret)
        )
        guest = self.make_guest(
            disk=top,
            disk_xml=ENCRYPTION_XML.format(self.secret) + below,
            start=False,
        )
        self.check(guest)

    def test_secret_that_nobody_names(self) -> None:
        guest = self.make_guest(disk=self.overlay(), start=False)
        self.assert_fails(guest, f'{self.base} cannot be read safely: it is')

    def test_unreadable_secret_of_a_running_guest(self) -> None:
        """It is looked for before the guest is suspended."""
        below = BACKING_XML.format(
            self.base, ENCRYPTION_XML.format(self.base_secret)
        )
        guest = self.make_guest(
            disk=self.overlay(), disk_xml=below, wait=False
        )
        with self.libvirtd.connection() as connection:
            secret = connection.secretLookupByUUIDString(self.base_secret)
            private = secret.XMLDesc().replace("private='no'", "private='yes'")
            secret.undefine()
            connection.secretDefineXML(private)
        with event_watch.EventWatch(self.libvirtd, guest) as watch:
            self.assert_fails(guest, 'is private')
        self.assertEqual([], watch.events)
