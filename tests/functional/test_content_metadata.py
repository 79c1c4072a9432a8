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

"""What libvirt keeps beside a guest's XML, and undefining might lose.

While a mirror copies, the guest is undefined, and libvirt forgets its
snapshots and checkpoints if it stops meanwhile.  So such a guest is read in
another way, and has them afterwards.
"""

import libvirt

from tests.functional import content
from tests.lab import exhaustive
from tests.lab import guest as guest_lib

SNAPSHOT = '<domainsnapshot><name>{}</name></domainsnapshot>'
CHECKPOINT = '<domaincheckpoint><name>{}</name></domaincheckpoint>'

AUTO = {'snapshot': {'live_method': 'auto', 'scratch_min_mb': '0'}}

#: What is taken, and the options; by default that would be a mirror.
WAYS = exhaustive.choose(
    (('cold', {}), ('pull', AUTO), ('pull', content.PULL)),
    (('cold', {}), ('pull', AUTO)),
)


class TestMetadata(content.ContentTestCase):
    """Also after a restart of libvirtd, which reads it from its files."""

    def names(self, guest: guest_lib.Guest) -> tuple[list[str], list[str]]:
        with guest.domain() as dom:
            checkpoints = [c.getName() for c in dom.listAllCheckpoints()]
            return sorted(dom.snapshotListNames()), sorted(checkpoints)

    def check_kept(
        self, guest: guest_lib.Guest, names: tuple[list[str], list[str]]
    ) -> None:
        for path, options in WAYS:
            with self.subTest(path=path):
                self.configure(**options)
                self.take(guest, path)
                self.assertEqual(names, self.names(guest))
                self.libvirtd.restart()
                self.assertEqual(names, self.names(guest))

    def test_snapshots(self) -> None:
        guest = self.make_guest()
        with guest.domain() as dom:
            for name in ('one', 'two'):
                dom.snapshotCreateXML(SNAPSHOT.format(name))
        self.check_kept(guest, (['one', 'two'], []))

    def test_external_snapshots(self) -> None:
        guest = self.make_guest()
        path = guest.spec.disk.path
        for suffix in ('.one', '.two'):
            self.addCleanup(path.with_suffix(suffix).unlink)
        with guest.domain() as dom:
            for name in ('one', 'two'):
                dom.snapshotCreateXML(
                    SNAPSHOT.format(name),
                    libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
                    | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC,
                )
        self.check_kept(guest, (['one', 'two'], []))

    def test_checkpoints(self) -> None:
        guest = self.make_guest()
        with guest.domain() as dom:
            dom.checkpointCreateXML(CHECKPOINT.format('one'))
        self.check_kept(guest, ([], ['one']))
