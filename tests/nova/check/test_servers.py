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

"""What ``nova-snap nova-check`` says of libvirt, QEMU, and the servers.

libvirt is its own test driver, with guests as a file describes them.
"""

from nova_snap import exception
from nova_snap.nova import settings
from nova_snap.nova.check import findings
from nova_snap.nova.check import servers
from nova_snap.virt.libvirt import policy
from tests.nova import base
from tests.unit.cmd import base as cmd_base

VOLUME = 'ad0c5ee8-7c1a-4ac5-9b54-f6ad64ef2b2e'

DISK = """
<disk type='block' device='disk'>
  <driver name='qemu' type='raw'/>
  <source dev='/dev/null'/>
  <target dev='vda'/>
  {serial}
</disk>"""

RBD = """
<disk type='network' device='disk'>
  <driver name='qemu' type='raw'/>
  <source protocol='rbd' name='pool/image'><host name='127.0.0.1'/></source>
  <target dev='vda'/>
</disk>"""

METADATA = """
<metadata>
  <nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'>
    <nova:name>web</nova:name>
  </nova:instance>
</metadata>"""

SERIAL = f'<serial>{VOLUME}</serial>'


class HostTestCase(base.NovaTestCase):
    """A host with one server."""

    def found(
        self,
        serial: str = '',
        more: str = '',
        virt_type: str = 'qemu',
        disk: str = DISK,
    ) -> dict[str, findings.Finding]:
        """Run the check of libvirt; return the findings by check."""
        folder = self.folder()
        guest = cmd_base.DOMAIN.format(
            name='web',
            uuid=cmd_base.RUNNING,
            disk=disk.format(serial=serial),
            state=cmd_base.STATES['running'],
        )
        guest = guest.replace('</uuid>', f'</uuid>{METADATA}')
        (folder / 'guests.xml').write_text(f'<node>{guest}</node>')
        self.configure(f'connection_uri = test://{folder}/guests.xml\n{more}')
        base.CONF.set_override('virt_type', virt_type, 'libvirt')
        self.addCleanup(base.CONF.clear_override, 'virt_type', 'libvirt')
        settings.register()
        return {
            found.check: found for found in findings.run(servers.check_libvirt)
        }

    def server(self, **arguments: str) -> findings.Finding:
        """Return the finding about the server."""
        return self.found(**arguments)[f'server {cmd_base.RUNNING}']


class ServerTest(HostTestCase):
    """Which way the snapshot of a server goes."""

    def test_in_a_volume(self) -> None:
        found = self.server(serial=SERIAL)
        self.assertEqual(findings.Result.OK, found.result)
        self.assertIn('by nova-api: it boots from a volume', found.detail)

    def test_in_a_block_device_that_is_no_volume(self) -> None:
        found = self.server(serial='<serial>abc</serial>')
        self.assertEqual(findings.Result.WARNING, found.result)
        self.assertIn('cold. The guest is suspended', found.detail)

    def test_in_ceph(self) -> None:
        found = self.server(disk=RBD)
        self.assertIn('cold unless Glance says', found.detail)
        self.assertNotIn('cannot be pulled', found.detail)

    def test_in_ceph_where_nothing_may_be_live(self) -> None:
        found = self.server(
            disk=RBD,
            more='[workarounds]\ndisable_libvirt_livesnapshot = true',
        )
        self.assertEqual(findings.Result.WARNING, found.result)
        self.assertIn('forbids live snapshots', found.detail)

    def test_left_to_nova(self) -> None:
        found = self.found(virt_type='lxc')
        self.assertEqual(['servers'], list(found))
        self.assertIn('by the driver of Nova', found['servers'].detail)
        self.assertEqual(findings.Result.OK, found['servers'].result)


class VersionTest(HostTestCase):
    """Versions that a method needs."""

    def test_too_old_for_every_method(self) -> None:
        # libvirt's test driver has version 2, which is 0.0.2.
        found = self.found(more='[nova_snap]\nlive_method = auto')['QEMU']
        self.assertEqual(findings.Result.WARNING, found.result)
        self.assertIn('too old for pull and mirror, so servers', found.detail)

    def test_too_old_for_one(self) -> None:
        self.patch(
            policy, 'MIN_QEMU', {policy.MIRROR: (0, 0, 1), policy.PULL: (4,)}
        )
        found = self.found(more='[nova_snap]\nlive_method = auto')['QEMU']
        self.assertIn('too old for pull.', found.detail)

    def test_too_old_for_what_is_compressed(self) -> None:
        found = self.found()['zstd']
        self.assertEqual(findings.Result.WARNING, found.result)
        self.assertIn('compression_type = zlib', found.detail)

    def test_new_enough_for_what_is_compressed(self) -> None:
        self.patch(servers, 'MIN_QEMU_ZSTD', (0, 0, 2))
        found = self.found()['zstd']
        self.assertEqual(findings.Result.OK, found.result)
        self.assertIn('every host that starts servers', found.detail)

    def test_what_every_version_reads(self) -> None:
        for options in (
            'compression_type = zlib',
            'compression = off',
            'live_method = mirror',
        ):
            with self.subTest(options):
                self.assertNotIn(
                    'zstd', self.found(more=f'[nova_snap]\n{options}')
                )

    def test_libvirt_that_does_not_answer_is_said_once(self) -> None:
        self.configure('connection_uri = qemu+unix:///system?socket=/nowhere')
        settings.register()
        (found,) = findings.run(servers.check_libvirt)
        self.assertEqual(
            ('libvirt', findings.Result.FAILED), (found.check, found.result)
        )
        self.assertNotIn(
            exception.HypervisorUnavailable.__name__, found.detail
        )
