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

"""A Glance that refuses, breaks, stalls, dies, or loses the record."""

import json
import pathlib
import signal
import subprocess
import threading

from tests.functional import base
from tests.functional import faults
from tests.lab import exhaustive
from tests.lab import fault_proxy

CREATE = ('POST', '/images$')
UPLOAD = ('PUT', '/file$')
GET = ('GET', r'/images/[-0-9a-f]{36}$')

COMPARE = 'nova_snap.image.glance:_compare'

#: The exit status for each answer, to whatever it is the answer.
STATUSES = {401: 5, 403: 5, 413: 1, 500: 6, 503: 6}

#: Answers to each call, and the exit status for each.
TO_CREATE = exhaustive.choose(
    {**STATUSES, 404: 6, 409: 4}.items(), ((403, 5), (409, 4))
)
TO_UPLOAD = exhaustive.choose(STATUSES.items(), ((413, 1), (503, 6)))
TO_GET_AT_THE_START = exhaustive.choose(((401, 5), (503, 6)), ((503, 6),))
TO_GET = exhaustive.choose(((403, 5), (503, 6)), ((503, 6),))

#: Calls that are answered with an error once.
ONCE = exhaustive.choose((CREATE, UPLOAD, GET), (UPLOAD,))


class GlanceTestCase(faults.GlanceFaultTestCase):
    """Snapshots of a guest that is shut off."""

    def setUp(self) -> None:
        super().setUp()
        self.guest = self.shared_stopped_guest()
        self.found = base.Found.of(self.guest)

    def assert_clean(self) -> None:
        self.assert_as_found(self.guest, self.found)
        self.assert_nothing_left()

    def assert_failed(self, status: int, *patterns: str) -> faults.Ended:
        ended = self.snapshot_fails(self.guest, status, *patterns)
        self.assert_clean()
        self.assert_no_record(self.guest)
        return ended

    def assert_taken(
        self, process: subprocess.Popen[str] | None = None
    ) -> pathlib.Path:
        """Check that a snapshot succeeds; return its data in Glance."""
        process = process or self.begin(self.guest, speed=None)
        self.assert_ended(process, 0)
        self.assert_clean()
        (record,) = self.records(self.guest)
        self.assertEqual('active', record.status)
        self.assert_image_right(self.glance_file(record.id), 0)
        return self.glance_file(record.id)


class TestRefused(GlanceTestCase):
    """Answers with an error."""

    RETRIES = 1

    def refuse(
        self,
        what: tuple[str, str],
        status: int,
        times: int | None = None,
        body: bytes = b'',
    ) -> None:
        self.proxy.clear()
        self.proxy.add(*what, fault_proxy.Answer(status, body), times)

    def test_to_create(self) -> None:
        for answer, status in TO_CREATE:
            with self.subTest(answer=answer):
                self.refuse(CREATE, answer)
                ended = self.assert_failed(status, '.')
                self.assertNotIn('image_pending_upload', ended.err)

    def test_to_upload(self) -> None:
        for answer, status in TO_UPLOAD:
            with self.subTest(answer=answer):
                self.refuse(UPLOAD, answer)
                self.assert_failed(status, '.')

    def test_to_upload_as_a_conflict(self) -> None:
        # The record is still there, so nobody deleted it.
        self.refuse(UPLOAD, 409)
        self.assert_failed(4, 'refused image')

    def test_to_upload_as_not_found(self) -> None:
        self.refuse(UPLOAD, 404)
        ended = self.snapshot_fails(self.guest, 3, 'does not exist')
        self.assertEqual([], ended.errors)
        self.assert_clean()
        self.assert_no_record(self.guest)

    def test_once(self) -> None:
        for what in ONCE:
            with self.subTest(what=what):
                self.refuse(what, 503, times=1)
                image = self.assert_taken()
                puts = self.proxy.count(*UPLOAD)
                self.assertEqual(2 if what == UPLOAD else 1, puts)
                self.direct().delete(image.name)

    def test_to_get_at_the_start(self) -> None:
        for answer, status in TO_GET_AT_THE_START:
            with self.subTest(answer=answer):
                self.refuse(GET, answer)
                ended = self.assert_failed(status, '.')
                self.assertNotIn('task state', ended.err)

    def refuse_to_get_from_now_on(self, answer: int) -> None:
        """When the record is made, it can be looked at no more."""

        def refuse(_request: fault_proxy.Request) -> None:
            self.proxy.add(*GET, fault_proxy.Answer(answer), None)

        self.proxy.clear()
        self.proxy.add(*CREATE, fault_proxy.Call(refuse))

    def test_to_get(self) -> None:
        # What can't be looked at can't be known to be unfinished: it stays
        # in the journal until it can.
        for answer, status in TO_GET:
            with self.subTest(answer=answer):
                self.refuse_to_get_from_now_on(answer)
                ended = self.snapshot_fails(self.guest, status, '.')
                self.assertIn('remove the image record', ended.errors[-1])
                self.proxy.clear()
                self.run_command('recover')
                self.assert_clean()
                self.assert_no_record(self.guest)


class TestBroken(GlanceTestCase):
    """Connections that break."""

    RETRIES = 1

    def test_cut_once(self) -> None:
        self.proxy.add(*UPLOAD, fault_proxy.CutRequest(faults.MIB))
        self.assert_taken()
        self.assertEqual(2, self.proxy.count(*UPLOAD))

    def test_cut_for_ever(self) -> None:
        self.proxy.add(*UPLOAD, fault_proxy.CutRequest(faults.MIB), None)
        self.assert_failed(6, 'does not answer')
        self.assertEqual(2, self.proxy.count(*UPLOAD))

    def test_answer_lost(self) -> None:
        self.proxy.add(*UPLOAD, fault_proxy.CutResponse(0))
        self.assert_taken()
        self.assertEqual(1, self.proxy.count(*UPLOAD))


class TestStalled(GlanceTestCase):
    """Connections that hang, for longer than we wait.

    We wait longer than Glance needs for an answer on a busy host.
    """

    RETRIES = 1
    TIMEOUT = 5
    STALL = 7

    def test_once(self) -> None:
        self.proxy.add(*UPLOAD, fault_proxy.Stall(faults.MIB, self.STALL))
        self.assert_taken()

    def test_for_ever(self) -> None:
        self.proxy.add(
            *UPLOAD, fault_proxy.Stall(faults.MIB, self.STALL), None
        )
        self.assert_failed(6, 'does not answer')


class TestDeleted(GlanceTestCase):
    """Somebody deletes the record while the snapshot runs."""

    def delete_record(self) -> None:
        (record,) = self.records(self.guest)
        self.direct().delete(record.id)

    def assert_stops(self, process: subprocess.Popen[str]) -> None:
        ended = self.assert_ended(process, 7, self.guest.uuid, 'was deleted')
        self.assertEqual([], ended.errors)
        self.assert_clean()
        self.assert_no_record(self.guest)

    def assert_stops_in_the_middle(
        self, process: subprocess.Popen[str]
    ) -> None:
        self.delete_record()
        self.assert_stops(process)
        # What was begun then did not come to its end.
        self.assertEqual(0, self.proxy.count(*UPLOAD))

    def test_while_it_is_converted(self) -> None:
        process = self.begin(self.guest, speed=1)
        self.wait_for_qemu_img(process)
        self.assert_stops_in_the_middle(process)

    def test_while_it_is_copied(self) -> None:
        self.guest = self.shared_guest()
        self.found = base.Found.of(self.guest)
        process = self.begin(self.guest, speed=1)
        self.wait_for_copying(process, self.guest)
        self.assert_stops_in_the_middle(process)

    def test_while_it_is_uploaded(self) -> None:
        is_deleted = threading.Event()

        def delete(_request: fault_proxy.Request) -> None:
            self.delete_record()
            is_deleted.set()

        self.proxy.add(*UPLOAD, fault_proxy.Call(delete, after=faults.MIB))
        process = self.begin(self.guest, speed=None)
        self.wait_until(process, is_deleted.is_set)
        self.assert_stops(process)


class TestCorrupt(GlanceTestCase):
    """An image that is active in Glance, and not what was sent."""

    RETRIES = 1

    def corrupt(self) -> None:
        # Not where the size of a chunk stands.
        self.proxy.add(*UPLOAD, fault_proxy.Corrupt(faults.MIB // 2 + 999))

    def assert_active(self) -> None:
        (record,) = self.records(self.guest)
        self.assertEqual('active', record.status)

    def die_before_the_comparison(self) -> None:
        argv = self.command('image-create', self.guest.uuid, 'image')
        shell = argv.index('nova_snap.cmd.shell')
        argv[shell : shell + 1] = [
            *('tests.functional.die_at', 'before', COMPARE)
        ]
        done = self.finish(self.start_process(argv))
        self.assertEqual(-signal.SIGKILL, done.returncode, done.stderr)
        self.assert_active()

    def test_it_cannot_be_deleted(self) -> None:
        self.corrupt()
        self.proxy.add('DELETE', '', fault_proxy.Answer(503), None)
        ended = self.snapshot_fails(self.guest, 1, 'is not what was sent')
        self.assertIn('verify or delete the image', ended.errors[-1])
        self.run_command('recover', status=1)
        self.assert_active()
        self.proxy.clear()
        self.run_command('recover')
        self.assert_clean()
        self.assert_no_record(self.guest)

    def test_killed_before_it_was_compared(self) -> None:
        self.corrupt()
        self.die_before_the_comparison()
        self.run_command('recover')
        self.assert_clean()
        self.assert_no_record(self.guest)

    def test_killed_before_a_right_one_was_compared(self) -> None:
        self.die_before_the_comparison()
        self.run_command('recover')
        self.assert_clean()
        self.assert_active()


class TestDead(GlanceTestCase):
    """Glance itself ends."""

    RETRIES = 1

    def setUp(self) -> None:
        super().setUp()
        self.is_dead = False
        self.addCleanup(self.revive)

    def revive(self) -> None:
        if self.is_dead:
            self.glance.start()
        self.is_dead = False

    def test_before(self) -> None:
        self.kill_glance()
        ended = self.snapshot_fails(self.guest, 6, 'does not answer')
        self.assertNotIn('image_pending_upload', ended.err)
        self.revive()
        self.run_command('recover')
        self.assert_clean()
        self.assert_no_record(self.guest)

    def kill_glance(self, _request: fault_proxy.Request | None = None) -> None:
        self.glance.kill()
        self.is_dead = True

    def test_killed_in_the_middle(self) -> None:
        # It can't even be asked to delete the record, until it is back.
        self.proxy.add(*UPLOAD, self.dying())
        ended = self.snapshot_fails(self.guest, 6, 'does not answer')
        self.assertIn('remove the image record', ended.errors[-1])
        self.assert_as_found(self.guest, self.found)
        self.assert_owes_a_record()
        self.run_command('recover', status=1)
        self.assert_owes_a_record()
        self.revive()
        self.run_command('recover')
        self.assert_clean()
        self.assert_no_record(self.guest)

    def dying(self) -> fault_proxy.Call:
        return fault_proxy.Call(self.kill_glance, after=faults.MIB)

    def assert_owes_a_record(self) -> None:
        (entry,) = (self.state_path / 'journal').iterdir()
        duties = json.loads(entry.read_text())['steps']
        self.assertEqual(
            ['remove the image record'], [duty['kind'] for duty in duties]
        )
        self.assertEqual([], list(self.snapshots.iterdir()))
