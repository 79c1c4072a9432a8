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


"""All disks of a guest on RBD: images that are made inside Ceph, or none."""

import atexit
import itertools
import json
import os
import pathlib

from tests.functional import base
from tests.functional import rbd_base
from tests.functional import test_kill
from tests.functional import test_rbd_direct_faults
from tests.lab import disk as disk_lib
from tests.lab import domain
from tests.lab import exhaustive
from tests.lab import fault_proxy
from tests.lab import guest as guest_lib
from tests.lab import root_disk
from tests.lab import steps

ALL = ('--all-disks',)

#: The disks, in the order of the writes of a numbered guest.
DEVICES = ('vda', 'vdc', 'vdd')

#: The guest that all tests here share.
_shared: dict[str, guest_lib.Guest] = {}


class RbdSetTestCase(rbd_base.RbdDirectTestCase):
    """A test of a guest with three disks on RBD."""

    def three_disks(self) -> tuple[root_disk.RootDisk, ...]:
        return tuple(
            self.lab.disk(self.libvirtd, self.rbd_image().name)
            for _device in DEVICES
        )

    def shared_guest(self) -> guest_lib.Guest:
        """Return a running guest that numbers its writes across its disks."""
        guest = _shared.get('guest')
        if guest is None:
            root, *further = self.three_disks()
            spec = domain.Spec(
                disk=root,
                extra_disks=tuple(further),
                numbered=True,
                tick_ms=5,
                agent=True,
                autostart=True,
                vnc_password='secret',
            )
            guest = _shared['guest'] = guest_lib.Guest(self.libvirtd, spec)
            # Before Ceph and libvirtd end, which began earlier.
            atexit.register(rbd_base.remove, guest, os.getpid())
            guest.start()
            guest.wait_until_up()
        if guest.state() == 'paused':
            guest.resume()
        self.addCleanup(guest.suspend)
        return guest

    def take_set(
        self, guest: guest_lib.Guest, *methods: str
    ) -> dict[str, pathlib.Path]:
        """Take images of all disks; return their data by the disks."""
        found = base.Found.of(guest)
        done = self.run_command(
            *('image-create', guest.uuid, 'image', '-f', 'json', *ALL)
        )
        self.assertEqual(list(methods), self.methods(done))
        shown = json.loads(done.stdout)
        ids = {DEVICES[0]: shown['id'], **shown['further_images']}
        self.assertEqual(DEVICES, tuple(ids))
        for image_id in ids.values():
            self.assertEqual('active', self.glance.get(image_id).status)
        self.assert_as_found(guest, found)
        self.assert_nothing_left_in_ceph(guest, *ids.values())
        return {
            device: self.export(self.image_path(ids[device]), device)
            for device in ids
        }

    def left_in_ceph(self, guest: guest_lib.Guest, *images: str) -> list[str]:
        further = (
            self.lab.snapshots(disk.path) for disk in guest.spec.extra_disks
        )
        return [*super().left_in_ceph(guest, *images), *filter(None, further)]


class TestContent(RbdSetTestCase):
    """What the images hold."""

    def test_frozen(self) -> None:
        """All images end with one number: none was under way."""
        guest = self.shared_guest()
        least = guest.ticks()
        last = []
        for path in self.take_set(guest, 'rbd_direct').values():
            self.assertTrue(disk_lib.file_system(path, 'raw').clean)
            last.append(max(disk_lib.ring_numbers(path, 'raw')))
        self.assertGreaterEqual(last[0], least)
        self.assertEqual([last[0]] * len(DEVICES), last)

    def test_neither_frozen_nor_shut_off(self) -> None:
        """Snapshots one after the other would not be as of one moment."""
        guest = self.shared_guest()
        guest.suspend()
        done = self.run_command('explain', guest.uuid, *ALL, '-f', 'value')
        self.assertIn('can be kept from writing false', done.stdout)
        self.assertIn('decision live pull', done.stdout)
        guest.resume()
        done = self.run_command('explain', guest.uuid, *ALL, '-f', 'value')
        self.assertIn('decision live rbd_direct', done.stdout)

    def test_shut_off(self) -> None:
        """Equal bit by bit."""
        disk, *further = self.three_disks()
        guest = self.make_guest(
            start=False, disk=disk, extra_disks=tuple(further)
        )
        taken = self.take_set(guest, 'rbd_direct')
        for path, own in zip(taken.values(), (disk, *further), strict=True):
            exported = self.export(own.path, 'own')
            self.assertEqual(
                '', disk_lib.differences(path, 'raw', exported, 'raw')
            )
            exported.unlink()


class TestRefused(RbdSetTestCase):
    """Glance does not take the location of the second image."""

    def test_after_the_first(self) -> None:
        """No image can be made another way then, and none stays."""
        guest = self.shared_guest()
        found = base.Found.of(guest)
        self.configure(snapshot={'max_parallel_disks': '1'})
        calls = itertools.count(1)

        def refuse(
            _request: fault_proxy.Request,
        ) -> fault_proxy.Answer | None:
            return fault_proxy.Answer(409) if next(calls) == 2 else None

        self.proxy.add(
            'POST', '/locations$', fault_proxy.Call(refuse), times=None
        )
        done = self.run_command(
            'image-create', guest.uuid, 'image', *ALL, status=1
        )
        self.assertEqual(['rbd_direct'], self.methods(done))
        self.assertIn('Another image of the set is there', done.stderr)
        self.assert_as_found(guest, found)
        self.assert_nothing_left_in_ceph(guest)


class TestThawed(RbdSetTestCase):
    """Another program thaws the guest between two of the snapshots."""

    def test_pulled(self) -> None:
        guest = self.shared_guest()
        folder, step = self.directory(), steps.after_call(2, 'rbd-snapshot')
        argv = self.command('image-create', guest.uuid, 'image', *ALL)
        shell = argv.index('nova_snap.cmd.shell')
        argv[shell : shell + 1] = [
            *('tests.functional.hold_at', str(folder)),
            *(step.moment, step.function),
        ]
        process = self.start_process(argv)
        guest.wait_for((folder / 'held').exists, 'second snapshot', 60)
        guest.agent('guest-fsfreeze-thaw')
        (folder / 'go').touch()
        done = self.finish(process)
        self.assertEqual(['rbd_direct', 'pull'], self.methods(done))
        self.assertIn('was not frozen while snapshots', done.stderr)
        images = [image.id for image in self.glance.list()]
        self.assertEqual(len(DEVICES), len(images))
        self.assert_nothing_left_in_ceph(guest, *images)


class TestFailed(test_rbd_direct_faults.FailTestCase, RbdSetTestCase):
    """A request for one of the disks fails once: all are pulled."""

    POINTS = exhaustive.choose(
        (
            steps.Point('before.2', 'rbd-snapshot'),
            steps.Point('after.3', 'rbd-snapshot'),
            steps.Point('before.2', 'rbd-clone'),
            steps.Point('after.3', 'rbd-clone'),
            steps.Point('after.3', 'rbd-offer'),
        ),
        (steps.Point('after.3', 'rbd-clone'),),
    )

    def test_each_request(self) -> None:
        guest = self.shared_guest()
        for point in self.POINTS:
            with self.subTest(str(point)):
                self.point = point
                self.take_set(guest, 'rbd_direct', 'pull')
                self.remove_images()


class TestKilled(RbdSetTestCase, test_kill.KillTestCase):
    """Kill, recover, look: three images that are whole, or none."""

    POINTS = steps.SET_RBD_DIRECT
    ARGUMENTS = ALL

    def guest_to_kill(self) -> guest_lib.Guest:
        return self.shared_guest()

    def recover(self) -> None:
        self.run_command('recover')
        self.assert_as_found(self.guest, self.found)
        active = [image.id for image in self.glance.list()]
        self.assertIn(len(active), (0, len(DEVICES)))
        self.assert_nothing_left_in_ceph(self.guest, *active)
        for image_id in active:
            self.assertEqual('active', self.glance.get(image_id).status)
            self.assertFalse(self.has_parent(image_id))
        self.remove_images()

    def test_each_point(self) -> None:
        self.check_all_points()
