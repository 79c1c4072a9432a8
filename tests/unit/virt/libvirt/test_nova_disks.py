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

"""All disks of a server of Nova, and the choice to suspend it for them."""

from collections.abc import Mapping
import dataclasses
from typing import Any
from unittest import mock

from nova_snap import exception
from nova_snap.objects import instance as instance_lib
from nova_snap.virt import decision as decision_lib
from nova_snap.virt.libvirt import disk_set
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt import driver
from tests.unit import base
from tests.unit.virt.libvirt import samples

FOLDER = '/var/lib/nova/instances/6a6bdf3d'
VOLUME = '2f0c3bd5-1b7a-4f4e-9d0e-52f6a7f2f2a9'
SHARED_VOLUME = (
    "<disk type='network' device='disk'><driver name='qemu' type='raw'/>"
    "<source protocol='rbd' name='volumes/volume-1'/><shareable/>"
    f"<target dev='vdd' bus='virtio'/><serial>{VOLUME}</serial></disk>"
)
EVERY = instance_lib.DiskChoice(is_every=True, without_volumes=True)


class LeftOutTest(base.TestCase):
    """The disks of a server of Nova that are no part of a set."""

    def choose(
        self, *disks: str, choice: instance_lib.DiskChoice = EVERY
    ) -> disk_set.DiskSet:
        """Choose among the disks of a guest with Nova's metadata."""
        nova = samples.NOVA.format(version='1.1')
        xml = samples.domain(*disks, metadata=nova)
        return disk_set.choose(disk_xml.disks(xml), choice)

    def test_ephemeral_and_swap_are_part(self) -> None:
        found = self.choose(
            samples.raw_disk(f'{FOLDER}/disk', 'vda'),
            samples.raw_disk(f'{FOLDER}/disk.eph0', 'vdb'),
            samples.raw_disk(f'{FOLDER}/disk.swap', 'vdc'),
        )
        self.assertEqual(
            ['vda', 'vdb', 'vdc'], [disk.device for disk in found.disks]
        )

    def test_volumes_and_config_drive_are_left_out(self) -> None:
        for name in (
            f'{FOLDER}/disk.config',
            f'/dev/vg/{samples.UUID}_disk.config',
        ):
            found = self.choose(
                samples.raw_disk(f'{FOLDER}/disk', 'vda'),
                samples.raw_disk(name, 'vdb'),
                SHARED_VOLUME,
            )
            self.assertEqual((), found.further)
            reasons = {
                left.disk.device: left.reason for left in found.left_out
            }
            self.assertIn('config drive', reasons['vdb'])
            self.assertIn(VOLUME, reasons['vdd'])

    def test_file_of_that_name_of_others_is_no_config_drive(self) -> None:
        xml = samples.domain(
            samples.raw_disk('/srv/disk', 'vda'),
            samples.raw_disk('/srv/disk.config', 'vdb'),
        )
        found = disk_set.choose(disk_xml.disks(xml), EVERY)
        self.assertEqual(['vdb'], [disk.device for disk in found.further])


@dataclasses.dataclass(frozen=True)
class Plan:
    """As much of a plan as the choice depends on."""

    is_every: bool
    decision: decision_lib.Decision


class Driver(driver.LibvirtDriver):
    """A driver that decides as it is told.

    :ivar suspends: whether the guest is suspended, for all disks or not; an
        error is raised.
    """

    def __init__(self, suspends: Mapping[bool, bool | Exception]) -> None:
        super().__init__(mock.Mock(), mock.Mock(), mock.Mock())
        self.suspends = suspends

    def _plan(  # type: ignore[override]
        self,
        instance: instance_lib.Instance,
        image_properties: Mapping[str, str],
        *excluded: decision_lib.Method,
    ) -> Plan:
        every = instance.disks.is_every
        suspends = self.suspends[every]
        if isinstance(suspends, Exception):
            raise suspends
        decision = decision_lib.Decision(
            decision_lib.Path.COLD, None, suspends, (), ()
        )
        return Plan(every, decision)


class IfLiveTest(base.TestCase):
    """Further disks where the guest is not suspended for them."""

    def plan(self, **suspends: bool | Exception) -> Any:
        """Return the plan.

        :param suspends: what reading all disks means, and the root disk.
        """
        host = Driver({True: suspends['every'], False: suspends['root']})
        choice = dataclasses.replace(EVERY, if_live=True)
        instance = instance_lib.Instance(samples.UUID, 'web', disks=choice)
        return host.plan(instance, {})

    def test_all_where_the_guest_runs_on(self) -> None:
        self.assertTrue(self.plan(every=False, root=False).is_every)

    def test_root_disk_where_it_would_be_suspended_for_the_others(
        self,
    ) -> None:
        self.assertFalse(self.plan(every=True, root=False).is_every)
        self.assertIn('its root disk only', self.log.output)

    def test_all_where_it_is_suspended_anyway(self) -> None:
        self.assertTrue(self.plan(every=True, root=True).is_every)
        self.assertNotIn('its root disk only', self.log.output)

    def test_root_disk_where_another_cannot_be_read(self) -> None:
        error = exception.UnsupportedGuest(server='s', reason='shareable')
        for suspends in (False, True):
            plan = self.plan(every=error, root=suspends)
            self.assertFalse(plan.is_every)
        self.assertIn('shareable', self.log.output)

    def test_what_passes_is_an_error(self) -> None:
        error = exception.Conflict('a backup runs')
        self.assertRaises(
            exception.Conflict, self.plan, every=error, root=False
        )
