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

"""What live and cold snapshots promise: the real driver, a double of libvirt.

The disk and qemu-img are real.
"""

from collections.abc import Mapping
import os
from typing import ClassVar

import fixtures
import libvirt

from nova_snap.compute import image_upload
from nova_snap.virt import driver as driver_lib
from nova_snap.virt.libvirt import driver
from nova_snap.virt.libvirt import host
from nova_snap.virt.libvirt import mirror_step
from nova_snap.virt.libvirt import plan
from nova_snap.virt.libvirt import requirements
from nova_snap.virt.libvirt import undo_steps
from nova_snap.virt.libvirt.extraction import guest_stop
from tests.unit import base
from tests.unit.compute import promise_tests
from tests.unit.compute import promises
from tests.unit.virt.libvirt import fake_copying
from tests.unit.virt.libvirt import fake_libvirt

SIZE = 1 << 16


class LibvirtOperation(promises.ImageCreate):
    """image-create of a guest of libvirt's."""

    live_disabled: ClassVar[bool]

    def make_driver(self) -> driver_lib.ComputeDriver:
        """Make the driver for a host with one guest."""
        self.data = os.urandom(SIZE)
        disk = self.folder / 'disk'
        disk.write_bytes(self.data)
        self.deltas = self.folder / 'snapshots'
        # The network interface of the guest, on this host.
        (self.folder / 'br-int').touch()
        self.case.patch(requirements, 'INTERFACES', self.folder)
        # Errors of the double are not those of a guest that stops.
        self.case.patch(guest_stop, 'STOP_TIMEOUT', 0)
        self.domain = fake_copying.Domain(disk)
        self.probe.watch('domain', self.domain, *fake_copying.METHODS)
        connection = fake_copying.Connection(self.domain)
        self.probe.watch('connection', connection, 'defineXML')
        self.case.useFixture(
            fixtures.MonkeyPatch('libvirt.open', lambda _uri: connection)
        )
        self.case.useFixture(
            fixtures.MonkeyPatch(
                'libvirt_qemu.qemuAgentCommand', fake_libvirt.agent_command
            )
        )
        return driver.LibvirtDriver(
            host.Host('fake:///system'),
            plan.Options(
                self.deltas,
                image_format='raw',
                live_disabled=self.live_disabled,
            ),
            self.locks.disk_operation_slot,
        )

    def fault(self, name: str) -> Exception:
        """Return an error of libvirt for a call to libvirt."""
        if name.startswith('images.'):
            return super().fault(name)
        return fake_libvirt.error(libvirt.VIR_ERR_OPERATION_FAILED, name)

    def is_done(self) -> bool:
        return super().is_done() and self.is_guest_right()

    def is_undone(self) -> bool:
        return super().is_undone() and self.is_guest_right()

    def is_guest_right(self) -> bool:
        """Return True if the guest and its host are as they were."""
        folders = self.deltas.iterdir() if self.deltas.exists() else ()
        return self.domain.is_untouched and list(folders) == []


class Live(LibvirtOperation):
    """A live snapshot, by a mirror."""

    undoing = 'connection.defineXML'
    undone_early = frozenset({undo_steps.Define.kind})
    live_disabled = False
    changes: ClassVar[Mapping[str, str]] = {
        'images.create': image_upload.RemoveRecord.kind,
        'domain.undefineFlags': undo_steps.Define.kind,
        'domain.blockRebase': mirror_step.EndMirror.kind,
        'domain.fs_freeze': undo_steps.Thaw.kind,
        'images.upload': image_upload.RemoveRecord.kind,
    }


class Cold(LibvirtOperation):
    """A snapshot for which the guest is suspended."""

    undoing = 'domain.createWithFlags'
    live_disabled = True
    changes: ClassVar[Mapping[str, str]] = {
        'images.create': image_upload.RemoveRecord.kind,
        'domain.fs_freeze': undo_steps.Thaw.kind,
        'domain.managedSave': undo_steps.Resume.kind,
        'images.upload': image_upload.RemoveRecord.kind,
    }


class LiveTest(promise_tests.PromiseTests, base.TestCase):
    """A live snapshot of a guest that runs."""

    operation_class = Live


class ColdTest(promise_tests.PromiseTests, base.TestCase):
    """A cold snapshot of a guest that runs."""

    operation_class = Cold
