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

"""Calls of libvirt that fail without saying why."""

from typing import Any

import libvirt

from nova_snap import exception
from tests.unit.virt.libvirt import base
from tests.unit.virt.libvirt import fake_libvirt


class LostErrorTest(base.GuestTestCase):
    """The bindings have lost the error of a call."""

    def setUp(self) -> None:
        super().setUp()
        self.guest = self.use(fake_libvirt.Domain())
        self.guest.power_state()  # libvirtd has answered once
        self.calls = 0

    def fail_once(self, _domain: Any) -> str:
        """Fail at the first call, with an error that has no code."""
        self.calls += 1
        if self.calls == 1:
            # Of another test, in a native thread that eventlet has kept.
            libvirt.virResetLastError()
            raise libvirt.libvirtError('virDomainGetXMLDesc() failed')
        return 'found'

    def test_call_that_may_be_repeated_is(self) -> None:
        found = self.guest.call('read it', self.fail_once, insist=True)
        self.assertEqual('found', found)
        self.assertEqual(2, self.calls)

    def test_other_calls_fail(self) -> None:
        self.assertRaises(
            exception.HypervisorUnavailable,
            self.guest.call,
            'change it',
            self.fail_once,
        )
