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

"""Image sets with volumes: one moment, one record that names snapshots."""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import io
import json
import time
from typing import Any
from unittest import mock

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap.compute import manager as manager_lib
from nova_snap.compute.volume_backed import moment as volume_moment
from nova_snap.compute.volume_backed import plan as volume_backed
from nova_snap.compute.volume_backed import requests as volume_requests
from nova_snap.compute.volume_backed import snapshots as volume_snapshots
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.virt import driver as driver_lib
from nova_snap.volume import api as volume_api
from tests.unit.compute import base
from tests.unit.compute import volumes as volumes_lib

HELD = driver_lib.Stillness.HELD

INSTANCE = dataclasses.replace(
    base.INSTANCE, disks=instance_lib.DiskChoice(is_every=True)
)


@dataclasses.dataclass(frozen=True)
class SetPlan(driver_lib.Plan):
    """Reads the disks that are no volumes, at one moment."""

    driver: 'SetDriver'

    @property
    def method(self) -> str:
        return 'pull'

    @contextlib.contextmanager
    def extracted(
        self, operation: driver_lib.Operation
    ) -> Iterator[driver_lib.Extraction]:
        driver = self.driver
        driver.events.append('freeze')
        try:
            driver.limit = operation.moment.limit
            operation.moment.take(driver.stillness)
        finally:
            driver.events.append('thaw')
        yield driver_lib.Extraction(
            tuple(self._data(operation) for _image in self.images)
        )
        driver.at_end()

    @contextlib.contextmanager
    def _data(
        self, operation: driver_lib.Operation
    ) -> Iterator[driver_lib.ImageData]:
        self.driver.before_data()
        yield driver_lib.ImageData(
            io.BytesIO(base.DATA), 'raw', len(base.DATA), operation.progress
        )

    def alternatives(self) -> Iterator[driver_lib.Plan]:
        yield dataclasses.replace(self, driver=self.driver.other)


class SetDriver(base.MemoryDriver):
    """A driver for several disks; ``other`` is that of the alternative."""

    def __init__(self) -> None:
        super().__init__()
        self.stillness = HELD
        self.limit = 0.0
        self.at_end = self.before_data = lambda: None
        self.other = self

    def plan(
        self,
        instance: instance_lib.Instance,
        image_properties: Mapping[str, str],
    ) -> driver_lib.Plan:
        self.image_properties = image_properties
        images = tuple(
            driver_lib.DiskImage(device.name, 'raw', len(base.DATA))
            for device in self.devices
            if device.volume_id is None
        )
        return SetPlan(instance, images, self)


class SetTestCase(base.ManagerTestCase):
    """An instance on vda and vdb of this host, and on the volume vdc."""

    def setUp(self) -> None:
        super().setUp()
        for owner, name, value in (
            (progress_lib, 'POLL_INTERVAL', 0.01),
            (volume_requests, 'QUICK_INTERVAL', 0.01),
            (volume_snapshots, 'SETTLE_TIMEOUT', 1),
        ):
            patcher = mock.patch.object(owner, name, value)
            patcher.start()
            self.addCleanup(patcher.stop)
        self.driver: SetDriver = SetDriver()
        self.volumes = volumes_lib.MemoryVolumes()
        self.volumes.events = self.driver.events
        self.driver.devices = (
            volumes_lib.device('vda', None),
            volumes_lib.device('vdb', None),
            volumes_lib.device('vdc', volumes_lib.DATA),
        )
        self.use(self.volumes)

    def use(
        self, volumes: volume_api.VolumeService | None, **options: float
    ) -> None:
        """Make the manager, with these volumes."""
        self.manager = manager_lib.SnapshotManager(
            self.driver,
            self.journal,
            self.locks,
            cancel_check_interval=0.05,
            volume_backed=volume_backed.VolumeBacked(
                self.driver,
                volumes,
                volume_moment.Options(
                    **{'snapshot_timeout': 5, 'frozen_timeout': 5, **options}
                ),
            ),
        )

    def take(
        self, instance: instance_lib.Instance = INSTANCE
    ) -> tuple[image_api.Image, ...]:
        """Take a set of images."""
        return self.manager.snapshot_instance(
            instance, 'backup', {}, self.images, self.progress
        )

    def error(self, category: type[exception.NovaSnapError]) -> Any:
        """Return the error of a set that fails, and leaves nothing."""
        error = self.assertRaises(category, self.take)
        self.assertEqual({}, self.volumes.made)
        self.assertEqual([], list(self.images.list()))
        self.assertEqual([], list(self.journal.entries()))
        return error

    def mapping(self, image: image_api.Image) -> list[dict[str, Any]]:
        """Return the block device mapping of an image."""
        found: list[dict[str, Any]] = json.loads(
            image.properties['block_device_mapping']
        )
        return found


class RecordTest(SetTestCase):
    """What the images name."""

    def test_root_disk_of_this_host(self) -> None:
        root, data = self.take()
        self.assertEqual(['active'] * 2, [root.status, data.status])
        [entry] = self.mapping(root)
        self.assertEqual(
            volumes_lib.DATA,
            self.volumes.made[entry['snapshot_id']].volume_id,
        )
        self.assertEqual(
            ('/dev/vdc', None), (entry['device_name'], entry['boot_index'])
        )
        self.assertEqual('True', root.properties['bdm_v2'])
        self.assertEqual('/dev/vda', root.properties['root_device_name'])
        self.assertEqual('vda,vdb', root.properties['nova_snap:disks'])
        self.assertEqual(len(base.DATA), root.size)
        self.assertNotIn('block_device_mapping', data.properties)

    def test_root_disk_is_a_volume(self) -> None:
        self.driver.devices = (
            volumes_lib.device(),
            volumes_lib.device('vdb', None),
            volumes_lib.device('vdc', volumes_lib.DATA),
        )
        root, data = self.take()
        self.assertEqual(['active'] * 2, [root.status, data.status])
        self.assertEqual((0, len(base.DATA)), (root.size, data.size))
        self.assertEqual(
            [('/dev/vda', 0), ('/dev/vdc', None)],
            [
                (entry['device_name'], entry['boot_index'])
                for entry in self.mapping(root)
            ],
        )
        self.assertEqual('vda,vdb', root.properties['nova_snap:disks'])
        self.assertEqual('backup-vdb', data.name)
        self.assertEqual('scsi', self.driver.image_properties['hw_disk_bus'])

    def test_one_disk_and_a_volume(self) -> None:
        """A single image is no set, but names the snapshot."""
        self.driver.devices = (
            volumes_lib.device('vda', None),
            volumes_lib.device('vdc', volumes_lib.DATA),
        )
        [image] = self.take()
        self.assertEqual(1, len(self.mapping(image)))
        self.assertNotIn('nova_snap:set', image.properties)

    def test_no_volume(self) -> None:
        self.driver.devices = self.driver.devices[:2]
        root, _data = self.take()
        self.assertNotIn('block_device_mapping', root.properties)
        self.assertEqual(0, self.driver.limit)

    def test_root_disk_alone(self) -> None:
        """Without --all-disks nobody asks for the volumes."""
        self.driver.devices = (
            volumes_lib.device('vda', None),
            volumes_lib.device('vdc', volumes_lib.DATA),
        )
        [image] = self.take(base.INSTANCE)
        self.assertNotIn('block_device_mapping', image.properties)
        self.assertEqual({}, self.volumes.made)


class MomentTest(SetTestCase):
    """When the snapshots are taken, and for how long a guest is held."""

    def test_held_until_they_are_taken(self) -> None:
        self.take()
        self.assertEqual(
            ['freeze', 'create', 'available', 'thaw'], self.driver.events
        )
        self.assertEqual(5, self.driver.limit)

    def test_late(self) -> None:
        self.volumes.looks = 20
        self.use(self.volumes, frozen_timeout=0.1)
        error = self.error(exception.VolumeSnapshotsLate)
        self.assertIn('0.1 s ([cinder] frozen_timeout)', str(error))

    def test_late_where_quiesce_is_required(self) -> None:
        self.volumes.volumes[volumes_lib.ROOT] = volumes_lib.volume(
            image_metadata={'os_require_quiesce': 'true'}
        )
        self.driver.devices = (
            volumes_lib.device(),
            volumes_lib.device('vdb', None),
        )
        self.volumes.looks = 20
        self.use(self.volumes, frozen_timeout=0.1)
        self.error(exception.QuiesceNotPossible)

    def test_not_waited_for_if_so_configured(self) -> None:
        self.use(self.volumes, frozen_timeout=0)
        self.take()
        self.assertEqual(
            ['freeze', 'create', 'thaw', 'available'], self.driver.events
        )
        self.assertGreaterEqual(self.driver.limit, 15)

    def test_nothing_keeps_the_guest_from_writing(self) -> None:
        """Scratch files fill meanwhile, so not even answers are waited for."""
        self.driver.stillness = driver_lib.Stillness.NONE
        self.volumes.on_create = lambda volume_id: self.until('thaw')
        self.take()
        self.assertEqual(
            ['freeze', 'thaw', 'create', 'available'], self.driver.events
        )

    def until(self, event: str) -> None:
        """Wait until this was done; whoever waits for us fails instead."""
        deadline = time.monotonic() + 10
        while event not in self.driver.events:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def test_shut_off(self) -> None:
        """Nobody waits for the guest, so there is time."""
        self.driver.stillness = driver_lib.Stillness.OFF
        self.volumes.looks = 20
        self.use(self.volumes, frozen_timeout=0.1)
        self.take()
        self.assertEqual(
            ['freeze', 'create', 'available', 'thaw'], self.driver.events
        )


class RefusedTest(SetTestCase):
    """What is found out before anything is made."""

    def refused(self, category: type[exception.NovaSnapError]) -> str:
        """Return why a set is refused, with nothing begun."""
        error = self.error(category)
        self.assertEqual([], self.driver.events)
        return str(error)

    def test_no_cinder(self) -> None:
        self.use(None)
        message = self.refused(exception.UnsupportedGuest)
        self.assertIn(f'vdc (volume {volumes_lib.DATA})', message)
        self.assertIn('[cinder]', message)
        self.assertIn('--disk', message)

    def test_volume_in_a_file(self) -> None:
        self.driver.devices = (
            volumes_lib.device('vda', None),
            volumes_lib.device('vdb', volumes_lib.DATA, in_file=True),
        )
        self.assertIn(
            volumes_lib.DATA, self.refused(exception.UnsupportedGuest)
        )

    def test_quota(self) -> None:
        self.volumes.quota = volume_api.SnapshotQuota(used=10, limit=10)
        self.assertIn('10 of 10', self.refused(exception.VolumeQuotaExceeded))


class FailureTest(SetTestCase):
    """What goes wrong on the way leaves no image and no snapshot."""

    def test_cinder_refuses(self) -> None:
        self.volumes.on_create = mock.Mock(
            side_effect=exception.VolumeConflict(what='volume', reason='no')
        )
        self.error(exception.VolumeConflict)
        self.assertEqual(['freeze', 'thaw'], self.driver.events)

    def test_snapshot_in_error(self) -> None:
        self.volumes.end = volume_api.SnapshotStatus.ERROR
        self.error(exception.VolumeSnapshotFailed)

    def test_a_disk_cannot_be_read(self) -> None:
        self.driver.before_data = mock.Mock(
            side_effect=[None, exception.SnapshotFailed('no')]
        )
        self.error(exception.SnapshotFailed)
        self.assertIn('delete', self.driver.events)

    def test_after_the_images_are_active(self) -> None:
        """The set stays as one image does, and the snapshots with it."""
        self.driver.at_end = mock.Mock(
            side_effect=exception.SnapshotFailed('at the end')
        )
        self.assertRaises(exception.SnapshotFailed, self.take)
        images = list(self.images.list())
        self.assertEqual(['active'] * 2, [image.status for image in images])
        [root] = [i for i in images if 'bdm_v2' in i.properties]
        [entry] = self.mapping(root)
        self.assertEqual([entry['snapshot_id']], list(self.volumes.made))
        self.assertNotIn('delete', self.driver.events)
        self.assertEqual([], list(self.journal.entries()))

    def test_method_is_not_available(self) -> None:
        """Nothing was asked for then; the next method asks."""
        other = SetDriver()
        other.events = self.driver.events
        self.driver.other = other
        unavailable = exception.MethodUnavailable(method='pull', reason='no')

        def refuse(plan: SetPlan, operation: driver_lib.Operation) -> Any:
            if plan.driver is self.driver:
                raise unavailable
            return extracted(plan, operation)

        extracted = SetPlan.extracted
        with mock.patch.object(SetPlan, 'extracted', refuse):
            root, _data = self.take()
        self.assertEqual(1, len(self.mapping(root)))
        self.assertEqual(1, self.driver.events.count('create'))
