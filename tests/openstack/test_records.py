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

"""Records, task states and diary are those of unmodified Nova, all of them.

The same server is snapshotted by Nova's own driver and by ours, in every
state that makes a difference.
"""

import dataclasses

from tests.lab import exhaustive
from tests.openstack import base
from tests.openstack import mode
from tests.openstack import records
from tests.openstack import seed
from tests.openstack import server as server_lib

RAW = {'libvirt.snapshot_image_format': 'raw'}

#: Actions that bring a server into a status, and back.
STATES = {
    'ACTIVE': (None, None),
    'PAUSED': ('pause', 'unpause'),
    'SUSPENDED': ('suspend', 'resume'),
    'SHUTOFF': ('stop', 'start'),
}

#: Those in which images are taken: of a guest that runs, and that does not.
CHOSEN = exhaustive.choose(STATES, ('ACTIVE', 'SHUTOFF'))

OURS = (mode.Mode(method='mirror'), mode.Mode(method='pull'))

TASK_STATES = [
    'image_snapshot_pending',
    'image_snapshot',
    'image_pending_upload',
    'image_uploading',
    None,
]


class TestRecords(base.CloudTestCase):
    """What a user of the API sees does not tell the drivers apart."""

    MODE = mode.UNMODIFIED

    def test_every_state(self) -> None:
        server = self.shared_server()
        expected = self.outcomes(server)
        for mode_ in OURS:
            self.compute.run(mode_)
            for status, found in self.outcomes(server).items():
                with self.subTest(f'{status}, {mode_}'):
                    self.compare(expected[status], found)

    def test_raw(self) -> None:
        server = self.shared_server(seed.FLAVOR_SMALL)
        self.compute.run(mode.UNMODIFIED.with_options(RAW))
        expected = records.take(self, server)
        self.assertEqual('raw', expected.image['disk_format'])
        self.compute.run(OURS[0].with_options(RAW))
        self.compare(expected, records.take(self, server))

    def outcomes(
        self, server: server_lib.Server
    ) -> dict[str, records.Outcome]:
        """Of a snapshot in each of the states."""
        found = {}
        for status in CHOSEN:
            there, back = STATES[status]
            if there:
                server.act(there, status)
            found[status] = records.take(self, server)
            if back:
                server.act(back, 'ACTIVE')
        return found

    def compare(
        self, expected: records.Outcome, found: records.Outcome
    ) -> None:
        """Equal, field by field."""
        self.assertEqual(TASK_STATES, expected.task_states)
        for field in dataclasses.fields(records.Outcome):
            self.assertEqual(
                getattr(expected, field.name),
                getattr(found, field.name),
                field.name,
            )
