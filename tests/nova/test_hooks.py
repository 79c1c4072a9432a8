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

"""What the pipelines leave to Nova."""

import contextlib
import os
import pathlib
import stat
from typing import Any
from unittest import mock
import uuid

from nova import exception as nova_exception
from nova import objects
import nova.conf
from nova.network import model as network_model
from nova.objects import instance as nova_instance
import nova.privsep.path

from nova_snap import exception
from nova_snap import journal
from nova_snap import this_host
from nova_snap import undo
from nova_snap.nova import block_devices
from nova_snap.nova import hooks as hooks_lib
from nova_snap.virt.storage import disk_source as storage
from tests.nova import base
from tests.unit.virt.libvirt import samples

MDEV_UUID = str(uuid.UUID(int=7))


class HooksTestCase(base.NovaTestCase):
    """A guest with two devices of the host and a mediated one."""

    def setUp(self) -> None:
        super().setUp()
        self.nova = self.driver()
        self.domain = base.Domain(
            '',
            samples.hostdev(1),
            samples.hostdev(2),
            base.MDEV.format(uuid=MDEV_UUID),
        )
        self.guest = self.guest_of(self.nova, self.domain)
        self.all = ['0x01', '0x02', MDEV_UUID]
        self.hooks = hooks_lib.NovaHooks(self.nova, self.server())
        self.resources = undo.Resources(self.guest, self.hooks)
        self.journal = journal.Journal(self.folder() / 'journal')

    def begun(self) -> contextlib.AbstractContextManager[journal.Entry]:
        """Begin an entry of the journal, for operations on the guest."""
        return self.journal.begun(samples.UUID, 'web', self.resources)

    def server(self) -> Any:
        """With Nova's record of the devices."""
        server = self.instance(
            pci_devices=objects.PciDeviceList(
                objects=[
                    objects.PciDevice(
                        address=f'0000:3b:{slot:02x}.1', request_id=None
                    )
                    for slot in (1, 2)
                ]
            ),
            info_cache=objects.InstanceInfoCache(
                network_info=network_model.NetworkInfo()
            ),
            pci_requests=objects.InstancePCIRequests(requests=[]),
        )
        self.patch(
            nova_instance.Instance,
            'get_pci_devices',
            lambda self, source=None, request_id=None: (
                self.pci_devices.objects
            ),
        )
        return server


class DevicesTest(HooksTestCase):
    """Taken and given back by Nova's own functions."""

    def test_are_taken_for_the_block(self) -> None:
        with self.begun() as entry:
            with self.hooks.without_devices(self.guest, entry):
                self.assertEqual([], self.domain.identities)
                (found,) = self.journal.entries()
                (step,) = found.steps
            self.assertEqual(sorted(self.all), sorted(self.domain.identities))
        self.assertEqual(hooks_lib.AttachDevices([MDEV_UUID]), step)
        self.assertEqual([], list(self.journal.entries()))

    def test_only_missing_ones_are_given_back(self) -> None:
        del self.domain.devices[1]
        self.patch(self.hooks, 'is_being_deleted', lambda _uuid: False)
        for _twice in range(2):
            hooks_lib.AttachDevices([MDEV_UUID]).undo(self.resources)
            self.assertEqual(sorted(self.all), sorted(self.domain.identities))

    def test_guest_without_any_is_left_alone(self) -> None:
        self.domain.devices.clear()
        with (
            self.begun() as entry,
            self.hooks.without_devices(self.guest, entry),
        ):
            self.assertEqual([], list(self.journal.entries()))

    def test_server_that_is_being_deleted_gets_none(self) -> None:
        self.domain.devices.clear()
        self.patch(self.hooks, 'is_being_deleted', lambda _uuid: True)
        hooks_lib.AttachDevices([MDEV_UUID]).undo(self.resources)
        self.assertEqual([], self.domain.identities)


class DeletionTest(base.NovaTestCase):
    """What the database says; here it is a function."""

    def is_being_deleted(self, answer: Any) -> bool:
        """Whether it is taken for one, by this answer."""

        def get(*_args: Any, **_kwargs: Any) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return self.instance(task_state=answer)

        self.patch(nova_instance.Instance, 'get_by_uuid', get)
        return hooks_lib.NovaHooks(None).is_being_deleted(samples.UUID)

    def test_answers(self) -> None:
        gone = nova_exception.InstanceNotFound(instance_id=samples.UUID)
        for answer, expected in (
            ('deleting', True),
            (gone, True),
            ('image_uploading', False),
            (None, False),
            (TimeoutError('no conductor'), False),
        ):
            self.assertEqual(expected, self.is_being_deleted(answer), answer)
        self.assertIn('no conductor', self.log.output)


class EvacuationTest(base.NovaTestCase):
    """What the database says after this host has died and come back."""

    HOST = 'compute-1'

    def setUp(self) -> None:
        super().setUp()
        self.patch(nova.conf.CONF, 'host', self.HOST)
        self.answer: dict[str, Any] = {}
        self.evacuations: list[Any] = []
        self.patch(nova_instance.Instance, 'get_by_uuid', self.get_instance)
        self.patch(
            objects.MigrationList, 'get_by_filters', self.get_migrations
        )
        self.hooks = hooks_lib.NovaHooks(None)

    def get_instance(self, *_args: Any, **_kwargs: Any) -> Any:
        """Answer as the database."""
        if 'error' in self.answer:
            raise self.answer['error']
        return self.instance(**{'host': self.HOST, **self.answer})

    def get_migrations(
        self, _context: Any, filters: dict[str, str]
    ) -> list[Any]:
        """Answer as the database."""
        self.assertEqual(
            {
                'instance_uuid': samples.UUID,
                'migration_type': 'evacuation',
            },
            filters,
        )
        return self.evacuations

    def has_moved(self) -> bool:
        """Whether the server is somewhere else."""
        return self.hooks.has_moved(samples.UUID, this_host.UNKNOWN, '')

    def test_server_is_here(self) -> None:
        self.evacuations = [objects.Migration(status='failed')]
        self.assertFalse(self.has_moved())

    def test_server_is_elsewhere_or_gone(self) -> None:
        self.evacuations = [objects.Migration(status='done')]
        for answer in (
            {'host': 'compute-2'},
            {'error': nova_exception.InstanceNotFound(instance_id='')},
        ):
            self.answer = answer
            self.assertTrue(self.has_moved())

    def test_server_is_being_evacuated(self) -> None:
        for status in ('accepted', 'pre-migrating', 'of a later release'):
            self.evacuations = [objects.Migration(status=status)]
            self.assertRaises(exception.MayHaveMoved, self.has_moved)

    def test_database_does_not_answer(self) -> None:
        self.answer = {'error': TimeoutError('no conductor')}
        error = self.assertRaises(exception.MayHaveMoved, self.has_moved)
        self.assertIn('no conductor', str(error))

    def test_server_that_has_to_run(self) -> None:
        for vm_state, expected in (
            ('active', True),
            ('paused', True),
            ('stopped', False),
            ('shelved', False),
            ('soft-delete', False),
        ):
            self.answer = {'vm_state': vm_state}
            self.assertEqual(expected, self.hooks.has_to_run(samples.UUID))


class TakeBackTest(HooksTestCase):
    """A delta that QEMU has written; the privileged helper is a double."""

    def setUp(self) -> None:
        super().setUp()
        if os.geteuid() != 0:
            self.skipTest('Only root can change owners.')
        self.path = self.folder() / 'a.delta'
        chown = mock.patch.object(nova.privsep.path, 'chown')
        self.chown = chown.start()
        self.addCleanup(chown.stop)

    def test_of_qemu(self) -> None:
        self.path.touch()
        os.chown(self.path, 64055, -1)
        self.hooks.take_back(self.path)
        self.chown.assert_called_once_with(str(self.path), uid=os.geteuid())

    def test_link(self) -> None:
        self.path.symlink_to('/etc/passwd')
        os.lchown(self.path, 64055, -1)
        self.assertRaises(
            exception.SnapshotFailed, self.hooks.take_back, self.path
        )
        self.chown.assert_not_called()


class BlockDeviceTest(base.NovaTestCase):
    """A device that belongs to root; the privileged helper is a function."""

    def setUp(self) -> None:
        super().setUp()
        self.path = self.folder() / 'device'
        if os.geteuid() != 0:
            self.skipTest('Only root can make a device.')
        os.mknod(self.path, 0o600 | stat.S_IFBLK, os.makedev(7, 1 << 19))
        self.given: list[int] = []
        self.readable = False
        self.patch(os, 'access', lambda _path, _mode: self.readable)
        self.patch(
            nova.privsep.path,
            'chown',
            lambda _path, uid: self.given.append(uid),
        )
        self.journal = journal.Journal(self.folder() / 'journal')

    def read(self, kind: str = 'block') -> list[str]:
        """Read the disk; return the undo steps that were in the journal."""
        source = storage.DiskSource(
            type=kind, format='raw', location=str(self.path)
        )
        with (
            self.journal.begun(samples.UUID, 'web') as entry,
            block_devices.lent(source, entry),
        ):
            return [kind for e in self.journal.entries() for kind in e.kinds]

    def test_is_lent_and_given_back(self) -> None:
        owner = base.there(pathlib.Path(self.path))
        self.assertEqual([block_devices.GiveBack.kind], self.read())
        self.assertEqual([os.geteuid(), owner], self.given)

    def test_one_that_can_be_read_is_left_alone(self) -> None:
        self.readable = True
        self.assertEqual([], self.read())
        self.assertEqual([], self.given)

    def test_link_to_a_device(self) -> None:
        device = self.path.rename(self.path.with_name('dm-3'))
        self.path.symlink_to(device)
        with mock.patch.object(nova.privsep.path, 'chown') as chown:
            self.read()
        self.assertEqual(
            {str(device)}, {call.args[0] for call in chown.mock_calls}
        )

    def test_file_that_is_no_device(self) -> None:
        self.path.unlink()
        self.path.touch()
        self.assertRaises(exception.UnsafeDisk, self.read)
        block_devices.GiveBack(str(self.path), uid=0).undo(undo.Resources())
        self.assertEqual([], self.given)

    def test_files_are_left_alone(self) -> None:
        self.assertEqual([], self.read('file'))
        self.assertEqual([], self.given)

    def test_one_that_qemu_has_meanwhile_is_left_to_it(self) -> None:
        self.patch(os, 'geteuid', lambda: 4242)
        block_devices.GiveBack(str(self.path), uid=0).undo(undo.Resources())
        self.assertEqual([], self.given)
