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

"""Image sets with volumes: local disks and volumes at one moment."""

import json
import pathlib
import signal
import subprocess
import sys
import time
from typing import ClassVar
import urllib.request
import uuid

from tests.functional import base as functional_base
from tests.functional import content
from tests.functional.volume import base
from tests.lab import disk as disk_lib
from tests.lab import fault_proxy
from tests.lab import guest as guest_lib
from tests.lab import root_disk
from tests.lab import steps
from tests.lab import volumes as volumes_lib

#: Run by the guest's agent: numbers written to the root disk, to the local
#: data disk, and to the volume, each on its disk before the next.
WRITER = """
mkdir -p /mnt2 /mnt3
mount -t ext4 /dev/vdb /mnt2
mount -t ext4 /dev/vdc /mnt3
n=0
while :; do
    n=$((n + 1))
    echo $n >>/mnt/first
    sync
    echo $n >>/mnt2/second
    sync
    echo $n >>/mnt3/third
    sync
done
"""

POST = ('POST', '/snapshots$')

ALL = ('--all-disks',)
#: The volume is taken for the root disk.
VOLUME_FIRST = ('--disk', 'vdd', '--disk', 'vdc')


def wait(request: fault_proxy.Request) -> None:
    """Let a request wait before it reaches Cinder."""
    time.sleep(1)


class SetTestCase(base.VolumeTestCase):
    """A guest with an agent on vda (qcow2), vdc (raw) and vdd (a volume)."""

    #: What the guests of all classes here have in Cinder, by class.
    _volumes: ClassVar[dict[str, tuple[str, volumes_lib.VolumeDisk]]] = {}

    def setUp(self) -> None:
        super().setUp()
        key = type(self).__name__
        if key not in self._volumes:
            instance = str(uuid.uuid4())
            self._volumes[key] = (
                instance,
                self.lab.make_disk('data', instance=instance),
            )
        instance, self.volume = self._volumes[key]
        self.use(**content.PULL)
        self.guest = self._guest(instance)
        self._left = {image.id for image in self.glance.list()}

    def _guest(self, instance: str) -> guest_lib.Guest:
        found = self._class_guests.get(instance)
        if found is None:
            local = root_disk.make(
                guest_lib.disks_directory(self.libvirtd),
                root_disk.Kind.RAW,
                name=f'data-{instance}',
                size=16 * root_disk.MIB,
            )
            found = self.class_guest(
                extra_disks=(local, self.volume), uuid=instance, agent=True
            )
            self._class_guests[instance] = found
        return found

    def use(self, **sections: dict[str, str]) -> None:
        """Configure, with Glance as the image service."""
        snapshot = sections.pop('snapshot', {})
        self.configure(
            snapshot={**self.OPTIONS['snapshot'], **snapshot}, **sections
        )

    def assert_nothing_happened(self, found: functional_base.Found) -> None:
        """No snapshot, no image, no entry; the guest thawed, as found."""
        self.assertEqual('thawed', self.guest.agent('guest-fsfreeze-status'))
        self.assert_as_found(self.guest, found)
        self.assertEqual(set(), self.new_images())
        self.assert_nothing_made(self.volume)

    def new_images(self) -> set[str]:
        """Return the IDs of the images that other tests have not left."""
        return {image.id for image in self.glance.list()} - self._left


class MomentTest(SetTestCase):
    """What the images and the snapshots of a set hold."""

    def test_live_and_cold_and_shut_off(self) -> None:
        self._write()
        found = functional_base.Found.of(self.guest)
        for way, options in (('pull', content.PULL), ('cold', content.COLD)):
            with self.subTest(way):
                self.use(**options)
                # Long enough for many numbers, did the guest write on.
                self.proxy.add(*POST, fault_proxy.Call(wait))
                done = self.run_command(
                    *('image-create', self.guest.uuid, 'set', *ALL),
                    *('-f', 'json'),
                )
                self.assertIn(content.SAYS[way], done.stderr)
                self.assertRegex(done.stderr, r'were frozen for \d+ ms')
                shown = json.loads(done.stdout)
                self._check(shown['id'], shown['further_images']['vdc'])
                self.assert_as_found(self.guest, found)
                self.assert_nothing_left()
                self._delete(shown['id'], shown['further_images']['vdc'])
        with self.subTest('shut off'):
            self._shut_off()

    def _shut_off(self) -> None:
        self.guest.destroy()
        done = self.run_command(
            'image-create', self.guest.uuid, 'set', *ALL, '-f', 'json'
        )
        self.assertIn(content.SAYS['read'], done.stderr)
        self.assertEqual('shut off', self.guest.state())
        shown = json.loads(done.stdout)
        self.assertEqual(1, len(self.mapping(self.glance.get(shown['id']))))
        self.assert_nothing_left()
        self._delete(shown['id'], shown['further_images']['vdc'])

    def _write(self) -> None:
        self.guest.agent(
            'guest-exec', path='/bin/sh', arg=['-c', WRITER], timeout=60
        )
        self.guest.wait_for_ticks(100)

    def _check(self, root_id: str, data_id: str) -> None:
        root = self.glance.get(root_id)
        self.assertEqual('vda,vdc', root.properties['nova_snap:disks'])
        self.assertEqual('/dev/vda', root.properties['root_device_name'])
        [entry] = self.mapping(root)
        self.assertEqual(
            ('/dev/vdd', None), (entry['device_name'], entry['boot_index'])
        )
        data = self.glance.get(data_id)
        self.assertNotIn('block_device_mapping', data.properties)
        copy = self.lab.disk_from_snapshot(entry['snapshot_id'])
        try:
            disks = (
                self._fetch(root_id, 'qcow2'),
                self._fetch(data_id, 'raw'),
            )
            self._check_numbers(*disks, copy)
            self._boot(*disks, copy)
        finally:
            self.lab.remove(copy)

    def _fetch(self, image_id: str, image_format: str) -> root_disk.RootDisk:
        """Return an image of Glance as a disk for a guest."""
        path = self.directory() / f'{image_id}.{image_format}'
        url = f'{self.lab.glance.url}/v2/images/{image_id}/file'
        urllib.request.urlretrieve(url, path)  # noqa: S310
        return root_disk.RootDisk(root_disk.Kind.RAW, path, image_format)

    def _check_numbers(
        self,
        root: root_disk.RootDisk,
        data: root_disk.RootDisk,
        copy: volumes_lib.VolumeDisk,
    ) -> None:
        """No number without its predecessors on the other disks."""
        raw = self.lab.export(copy, self.directory() / 'copy.raw')
        first = self._numbers(root.path, 'qcow2', '/first')
        second = self._numbers(data.path, 'raw', '/second')
        third = self._numbers(raw, 'raw', '/third')
        self.assertGreater(len(third), 5)
        self.assertIn(
            (len(first) - len(second), len(second) - len(third)),
            ((0, 0), (1, 0), (0, 1)),
        )

    def _numbers(
        self, path: pathlib.Path, image_format: str, name: str
    ) -> list[int]:
        state = disk_lib.file_system(path, image_format, replay_journal=True)
        self.assertTrue(state.clean, state.report)
        lines = disk_lib.read_file(path, image_format, name).split()
        numbers = [int(line) for line in lines]
        self.assertEqual(list(range(1, len(numbers) + 1)), numbers)
        return numbers

    def _boot(
        self, root: root_disk.RootDisk, *others: root_disk.RootDisk
    ) -> None:
        guest = self.make_guest(disk=root, extra_disks=others)
        self.assertIn('FOUND', guest.console())
        guest.remove()

    def _delete(self, root_id: str, data_id: str) -> None:
        done = self.run_command(
            'image-delete', '--with-snapshots', root_id, '-f', 'json'
        )
        outcomes = [row['Outcome'] for row in json.loads(done.stdout)]
        self.assertEqual(['deleted'], outcomes)
        self.run_command('image-delete', data_id)
        self.assertEqual([], self.lab.snapshots(self.volume))


class FaultTest(SetTestCase):
    """A set of which one part fails; its guest is only read."""

    def setUp(self) -> None:
        super().setUp()
        self.found = functional_base.Found.of(self.guest)

    def assert_fails(
        self, status: int, *words: str, choice: tuple[str, ...] = ALL
    ) -> str:
        """Check that a set fails in one line, and leaves nothing."""
        done = self.run_command(
            *('image-create', self.guest.uuid, 'set', *choice), status=status
        )
        told = done.stderr.strip().splitlines()[-1]
        for word in words:
            self.assertIn(word, told)
        self.assert_nothing_happened(self.found)
        self.proxy.clear()
        self.image_proxy.clear()
        return done.stderr

    def test_explain(self) -> None:
        done = self.run_command('explain', self.guest.uuid, *ALL, '-f', 'json')
        rows = {r['Fact']: r for r in json.loads(done.stdout)}
        self.assertEqual(
            (self.volume.volume_id, 'cinder'),
            (rows['volume vdd']['Value'], rows['volume vdd']['Live Methods']),
        )
        self.assertIn('disk vdc', rows)
        self.assertEqual('pull', rows['decision']['Live Methods'])
        self.assertEqual(0, self.proxy.count(*POST))

    def test_no_cinder(self) -> None:
        self.OPTIONS.pop('cinder')
        self.use(**content.PULL)
        for command in (('explain',), ('image-create',)):
            name = ['set'] if command == ('image-create',) else []
            done = self.run_command(
                *command, self.guest.uuid, *name, *ALL, status=2
            )
            self.assertIn('[cinder]', done.stderr)
            self.assertIn(f'vdd (volume {self.volume.volume_id})', done.stderr)
        self.assert_nothing_happened(self.found)

    def test_quota(self) -> None:
        project = self.lab.client.client.session.get_project_id()
        limits = self.lab.client.limits.get().to_dict()['absolute']
        quotas = self.lab.admin.quotas
        quotas.update(project, snapshots=int(limits['totalSnapshotsUsed']))
        self.addCleanup(quotas.update, project, snapshots=-1)
        error = self.assert_fails(1, 'quota')
        self.assertNotIn('task state', error)

    def test_cinder_fails(self) -> None:
        """While the guest is suspended."""
        self.use(**content.COLD)
        self.proxy.add(*POST, fault_proxy.Answer(500), None)
        self.assert_fails(6, 'log of Cinder')

    def test_cinder_is_late(self) -> None:
        """While the guest is frozen, and its disks are exported."""
        self.use(**content.PULL, cinder={'frozen_timeout': '1'})
        self.proxy.add(*POST, fault_proxy.Call(lambda request: time.sleep(3)))
        self.assert_fails(1, 'frozen_timeout', 'later moment')

    def test_upload_of_one_disk_fails(self) -> None:
        # Each disk once: vdc's is sent first, and vda's waits for it.
        for passes in range(2):
            for _ in range(passes):
                self.image_proxy.add(
                    'PUT', '/file$', fault_proxy.Call(lambda request: None)
                )
            self.image_proxy.add(
                'PUT', '/file$', fault_proxy.Answer(403, b'No.'), None
            )
            self.assert_fails(5, 'No.')

    def test_volume_as_root_disk(self) -> None:
        """Its image has no data, the other disk one with data."""
        done = self.run_command(
            *('image-create', self.guest.uuid, 'set', *VOLUME_FIRST),
            *('-f', 'json'),
        )
        shown = json.loads(done.stdout)
        root = self.glance.get(shown['id'])
        data = self.glance.get(shown['further_images']['vdc'])
        self.assertEqual(('active', 0), (root.status, root.size))
        self.assertEqual('active', data.status)
        self.assertEqual(16 * root_disk.MIB, data.size)
        self.assertEqual('vdd,vdc', root.properties['nova_snap:disks'])
        [entry] = self.mapping(root)
        self.assertEqual(
            ('/dev/vdd', 0), (entry['device_name'], entry['boot_index'])
        )
        self.assert_as_found(self.guest, self.found)
        self.assertEqual({root.id, data.id}, self.new_images())
        self.run_command('image-delete', '--with-snapshots', root.id)
        self.run_command('image-delete', data.id)
        self.assert_nothing_happened(self.found)

    def test_kill(self) -> None:
        for point in steps.SET_WITH_VOLUMES:
            done = subprocess.run(
                [
                    *(sys.executable, '-m', 'tests.functional.die_at'),
                    *(point.moment, point.function),
                    *('--config-file', str(self.config)),
                    *('image-create', self.guest.uuid, 'killed', *ALL),
                ],
                capture_output=True,
                text=True,
                timeout=functional_base.TIMEOUT,
            )
            self.assertEqual(-signal.SIGKILL, done.returncode, done.stderr)
            self.run_command('recover')
            self.assert_nothing_happened(self.found)
