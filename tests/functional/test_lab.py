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

"""The lab is what it claims to be: the other functional tests rest on it."""

import re
import signal
import time

import libvirt

from tests.lab import base
from tests.lab import disk as disk_lib
from tests.lab import domain
from tests.lab import exhaustive
from tests.lab import gap_watch
from tests.lab import root_disk

MIB = 1024 * 1024


KINDS = exhaustive.choose(
    root_disk.Kind, (root_disk.Kind.GPT, root_disk.Kind.BLOCK)
)


class TestTicks(base.LabTestCase):
    def test_what_was_heard_is_on_the_disk(self):
        for kind in KINDS:
            with self.subTest(kind=kind):
                guest = self.make_guest(kind=kind)
                guest.wait_for_ticks(60)
                heard = guest.ticks()
                guest.destroy()
                disk = guest.spec.disk
                found = disk_lib.ring_numbers(disk.path, disk.format)
                self.assertGreaterEqual(max(found), heard)
                log = disk_lib.last_log_number(disk.path, disk.format)
                self.assertGreater(log, heard - 60)

    def test_every_bus(self):
        for bus in domain.DISK_PREFIXES:
            with self.subTest(bus=bus):
                guest = self.make_guest(bus=bus, cdrom_first=True)
                devices = re.findall(r"device='(\w+)'", guest.xml())
                self.assertEqual(['cdrom', 'disk'], devices)
                self.assertIn(f"dev='{guest.target}'", guest.xml())
                guest.remove()

    def test_a_second_boot_finds_the_log_and_the_marker(self):
        directory = self.directory()
        disk = root_disk.make(directory, files={'/marker': b'here I am\n'})
        guest = self.make_guest(disk=disk)
        guest.wait_for_ticks(60)
        last = guest.ticks()
        guest.destroy()
        guest.start()
        guest.wait_until_up()
        found = re.search(r'^FOUND (\d+) (\d+)', guest.console(), re.M)
        self.assertGreater(int(found[1]), 1)
        self.assertGreater(int(found[2]), last - 60)
        self.assertIn('MARKER here I am', guest.console())
        self.assertGreater(guest.ticks(), last)

    def test_extra_writes_reach_the_disk(self):
        guest = self.make_guest(write=4)
        with guest.domain() as dom:
            before = dom.blockStats(guest.target)[3]
            # However slow the host is; the ticks alone write 4 KiB each.
            guest.wait_for(
                lambda: dom.blockStats(guest.target)[3] - before > 6_000_000,
                'extra writes',
                120,
            )

    def test_a_guest_powers_itself_off(self):
        guest = self.make_guest(poweroff_after=1)
        guest.wait_for(lambda: guest.state() == 'shut off', 'end', 120)


class TestGapWatch(base.LabTestCase):
    def test_a_pause_is_seen_on_the_hosts_clock(self):
        guest = self.class_guest()
        with guest.gap_watch() as watch:
            guest.suspend()
            began = time.monotonic()
            time.sleep(1)
            ended = time.monotonic()
            guest.resume()
            guest.wait_for_ticks(10)
        result = watch.result
        self.assertGreaterEqual(result.longest_ms, (ended - began) * 1e3)
        self.assertLess(began - 0.5, result.longest_at)

    def test_a_pause_that_does_not_end_counts(self):
        guest = self.class_guest()
        with guest.gap_watch() as watch:
            guest.suspend()
            time.sleep(1)
        guest.resume()
        self.assertGreaterEqual(watch.result.longest_ms, 990)

    def test_a_guest_that_is_paused_is_not_ticking(self):
        guest = self.class_guest()
        self.assertTrue(guest.is_ticking())
        guest.suspend()
        self.assertFalse(guest.is_ticking(within=1))
        self.assertEqual('paused', guest.state())
        guest.resume()
        self.assertTrue(guest.is_ticking())

    def test_silence_at_the_start_is_an_error(self):
        guest = self.class_guest()
        guest.suspend()
        self.addCleanup(guest.resume)
        watch = gap_watch.GapWatch(guest.serial_log, patience=0.5)
        self.assertRaises(gap_watch.NoTicks, watch.__enter__)


class TestAgent(base.LabTestCase):
    def test_freeze_stops_the_ticks_and_thaw_lets_them_go_on(self):
        guest = self.class_guest(agent=True)
        with guest.domain() as dom:
            self.assertEqual(1, dom.fsFreeze())
            self.addCleanup(guest.agent, 'guest-fsfreeze-thaw')
            time.sleep(0.2)
            self.assertFalse(guest.is_ticking(within=1))
            self.assertEqual(1, dom.fsThaw())
        self.assertTrue(guest.is_ticking())

    def test_a_frozen_file_system_is_clean(self):
        guest = self.class_guest(agent=True)
        disk = guest.spec.disk
        running = disk_lib.file_system(disk.path, disk.format)
        self.assertTrue(running.needs_recovery)
        with guest.domain() as dom:
            dom.fsFreeze()
            self.addCleanup(guest.agent, 'guest-fsfreeze-thaw')
            frozen = disk_lib.file_system(disk.path, disk.format)
        self.assertFalse(frozen.needs_recovery, frozen.report)
        self.assertTrue(frozen.clean, frozen.report)

    def test_no_agent_answers_where_there_is_none(self):
        guest = self.make_guest(agent_channel=True)
        self.assertFalse(guest.agent_answers())


class TestLibvirtd(base.LabTestCase):
    def test_guests_outlive_their_libvirtd(self):
        guest = self.class_guest(agent=True)
        for signum in (signal.SIGTERM, signal.SIGKILL):
            with self.subTest(signum=signum):
                pid = self.libvirtd.pid()
                self.libvirtd.kill(signum)
                guest.wait_for_ticks(5)
                self.libvirtd.start()
                self.assertNotEqual(pid, self.libvirtd.pid())
                self.assertEqual('running', guest.state())
                guest.wait_for(guest.agent_answers, 'agent', 60)

    def test_it_sees_only_its_own_guests(self):
        guest = self.class_guest(agent=True)
        other = base.libvirtd_lib.Libvirtd(self.directory())
        with other, other.connection() as connection:
            self.assertEqual([], connection.listAllDomains())
        self.assertEqual('running', guest.state())

    def test_too_long_a_directory_is_refused(self):
        path = self.directory() / ('x' * 100)
        self.assertRaises(ValueError, base.libvirtd_lib.Libvirtd, path)

    def test_a_running_guest_sees_what_is_mounted_later(self):
        guest = self.make_guest(cache='writeback')
        delta = self.tmpfs(64 * MIB) / 'delta.qcow2'
        disk = root_disk.make(delta.parent, root_disk.Kind.QCOW2, size=8 * MIB)
        with guest.domain() as dom:
            dom.attachDevice(
                "<disk type='file' device='disk'>"
                "<driver name='qemu' type='qcow2' cache='writeback'/>"
                f"<source file='{disk.path}'/>"
                "<target dev='vdq' bus='virtio'/></disk>"
            )
            self.assertIn(str(disk.path), dom.XMLDesc(0))


class TestDomain(base.LabTestCase):
    def test_secrets_are_in_the_secure_xml_only(self):
        guest = self.make_guest(wait=False, vnc_password='s3cret')
        self.assertNotIn('s3cret', guest.xml())
        self.assertIn("passwd='s3cret'", guest.inactive_xml())

    def test_transient_and_persistent(self):
        transient = self.make_guest(wait=False, persistent=False)
        self.assertFalse(transient.is_persistent())
        transient.destroy()
        self.assertEqual('missing', transient.state())
        persistent = self.make_guest(wait=False, autostart=True)
        self.assertTrue(persistent.is_persistent())
        with persistent.domain() as dom:
            self.assertEqual(1, dom.autostart())
        persistent.destroy()
        self.assertEqual('shut off', persistent.state())

    def test_novas_metadata(self):
        guest = self.make_guest(
            start=False,
            metadata=domain.NovaMetadata("O'Brien & <sons>", 'image-1'),
        )
        with guest.domain() as dom:
            text = dom.metadata(
                libvirt.VIR_DOMAIN_METADATA_ELEMENT, domain.NOVA_NAMESPACE
            )
        self.assertIn("O'Brien &amp; &lt;sons&gt;", text)
        self.assertIn('image-1', text)

    def test_removing_leaves_nothing(self):
        guest = self.make_guest(kind=root_disk.Kind.BLOCK, wait=False)
        disk = guest.spec.disk
        guest.remove()
        self.assertFalse(guest.exists())
        self.assertFalse(disk.backing.exists())
        self.assertFalse(guest.serial_log.exists())

    def test_a_block_job_is_listed(self):
        guest = self.class_guest()
        self.assertEqual({}, guest.block_jobs())
        target = self.directory() / 'copy.qcow2'
        with guest.domain() as dom:
            dom.blockCopy(
                guest.target,
                f"<disk type='file'><source file='{target}'/>"
                "<driver type='qcow2'/></disk>",
                {},
                libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB,
            )
            self.addCleanup(dom.blockJobAbort, guest.target)
            self.assertEqual([guest.target], list(guest.block_jobs()))


class TestDisk(base.LabTestCase):
    def test_a_damaged_file_system_is_not_clean(self):
        disk = root_disk.make(self.directory(), root_disk.Kind.RAW)
        self.assertTrue(disk_lib.file_system(disk.path, 'raw').clean)
        with open(disk.path, 'r+b') as file:
            # The bitmaps and the inodes, which have no second copy.
            file.seek(64 * 1024)
            file.write(bytes(16 * MIB))
        found = disk_lib.file_system(disk.path, 'raw', replay_journal=True)
        self.assertFalse(found.clean)

    def test_a_file_in_every_kind_of_disk(self):
        for kind in root_disk.Kind:
            with self.subTest(kind=kind):
                disk = root_disk.make(
                    self.directory(), kind, files={'/etc/name': b'lab'}
                )
                self.addCleanup(disk.remove)
                found = disk_lib.read_file(disk.path, disk.format, '/etc/name')
                self.assertEqual(b'lab', found)

    def test_a_file_that_is_not_there(self):
        disk = root_disk.make(self.directory(), root_disk.Kind.RAW)
        self.assertRaises(
            FileNotFoundError, disk_lib.read_file, disk.path, 'raw', '/none'
        )

    def test_check_and_compare(self):
        one = root_disk.make(self.directory(), root_disk.Kind.QCOW2)
        self.assertEqual('', disk_lib.check(one.path))
        other = root_disk.make(self.directory(), root_disk.Kind.RAW)
        formats = (one.path, 'qcow2', other.path, 'raw')
        self.assertNotEqual('', disk_lib.differences(*formats))
        with open(one.path, 'r+b') as file:
            file.seek(2 * 65536)
            file.write(b'\xff' * 4096)
        self.assertNotEqual('', disk_lib.check(one.path))
