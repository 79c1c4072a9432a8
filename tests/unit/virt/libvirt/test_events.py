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

"""The record of events, as libvirt's callbacks fill it."""

from typing import Any

import libvirt

from nova_snap.virt.libvirt import events
from tests.unit import base

UUID = '6a6bdf3d-8a1c-4a6b-9b9c-0c7e1d1f0c55'


class Domain:
    """The domain of an event."""

    def UUIDString(self) -> str:  # noqa: N802
        """Return its uuid."""
        return UUID


class Connection:
    """A connection that keeps the callbacks."""

    def __init__(self) -> None:
        self.callbacks: dict[int, Any] = {}

    def domainEventRegisterAny(  # noqa: N802
        self, _domain: None, event: int, callback: Any, _opaque: None
    ) -> None:
        """Keep a callback."""
        self.callbacks[event] = callback

    def lifecycle(self, event: int, detail: int) -> None:
        """Tell of a start or a stop."""
        callback = self.callbacks[libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE]
        callback(self, Domain(), event, detail, None)


class CrashTest(base.TestCase):
    """Guests whose QEMU has ended by itself."""

    def setUp(self) -> None:
        super().setUp()
        self.record = events.EventRecord()
        self.connection = Connection()
        self.record.register(self.connection)

    def stop(self, detail: int) -> bool:
        """Return True if a stop is a crash."""
        self.connection.lifecycle(libvirt.VIR_DOMAIN_EVENT_STOPPED, detail)
        return self.record.has_crashed(UUID)

    def test_stop_that_was_asked_for(self) -> None:
        self.assertFalse(self.stop(libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN))
        self.assertFalse(self.stop(libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED))

    def test_crash_until_the_next_start(self) -> None:
        self.assertTrue(self.stop(libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED))
        self.connection.lifecycle(libvirt.VIR_DOMAIN_EVENT_STARTED, 0)
        self.assertFalse(self.record.has_crashed(UUID))

    def test_start_that_was_not_heard(self) -> None:
        self.assertTrue(self.stop(libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED))
        self.record.register(Connection())
        self.assertFalse(self.record.has_crashed(UUID))
