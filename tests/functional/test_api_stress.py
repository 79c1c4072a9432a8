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
"""The service with many requests at once, and killed among them.

Four guests, and a real Glance that takes the beginning of each image and then
stands still.  The seconds and what the process needs are printed, and are
details of the tests; with ``NOVA_SNAP_TEST_EXHAUSTIVE=1`` there is more of
everything.
"""

import collections
import contextlib
import sqlite3
import threading
import time
from typing import Any

from nova_snap.image import api as image_api
from nova_snap.image import glance
from tests.functional import api_base
from tests.functional import api_burst
from tests.functional import base
from tests.functional import content
from tests.functional.image import base as image_base
from tests.lab import base as lab_base
from tests.lab import exhaustive
from tests.lab import fault_proxy
from tests.lab import guest as guest_lib

MIB = 1 << 20

#: Requests at once.
REQUESTS = 200

#: How often so many are sent while the memory is watched.
ROUNDS = exhaustive.choose(range(10), (0, 1))

BACKENDS = ('eventlet', 'threading')

#: The backend whose memory is watched, and the one that is killed; that one
#: has to answer as well.
ANSWERING = exhaustive.choose(BACKENDS, ('threading',))
KILLED = exhaustive.choose(BACKENDS, ('eventlet',))

#: Bytes of a disk that Glance takes before it stands still.
TAKEN = 1 * MIB

#: What a process may need more after many requests than after a few: a leak
#: of what one request needs would take more.
MORE_MEMORY = 64
MORE_FILES = 32

#: Moments at which the service is killed, one after the other: how many
#: requests have been answered, and how many images are being sent.
KILLS = exhaustive.choose(
    ((1, 0), (0, 1), (40, 0), (0, 4), (REQUESTS, 0)) * 2, ((0, 4),)
)


class StressTestCase(api_base.ServiceTestCase):
    """Four guests, the service, and Glance behind a proxy."""

    def setUp(self) -> None:
        super().setUp()
        self.glance = image_base.real_glance()
        self.proxy = fault_proxy.FaultProxy(self.glance.url)
        self.proxy.start()
        self.addCleanup(self.proxy.stop)
        self.direct = glance.GlanceImageService.from_conf(
            image_base.make_conf(
                str(self.directory()), self.glance.nova_snap_conf()
            )
        )
        self.go_on = threading.Event()
        #: Uploads that do not go on.
        self.standing: list[str] = []
        self.guests = self.four_guests()
        self.found = [base.Found.of(guest) for guest in self.guests]
        self.addCleanup(self.delete_images)

    @classmethod
    def four_guests(cls) -> list[guest_lib.Guest]:
        """Return guests that run, are paused, and are shut off.

        They boot at the same time, and all tests of the class share them.
        """
        libvirtd = lab_base.shared_libvirtd()
        if not cls._class_guests:
            for number in range(4):
                guest = lab_base.new_guest(
                    libvirtd, files={'/filler': bytes(range(256)) * 4096 * 8}
                )
                cls._class_guests[str(number)] = guest
                guest.define()
            *boot, _shut_off = cls._class_guests.values()
            for guest in boot:
                guest.start()
            for guest in boot:
                guest.wait_until_up()
            boot[-1].suspend()
        return list(cls._class_guests.values())

    # The service ----------------------------------------------------------

    def begin_service(self, backend: str) -> Any:
        """Start the service; return its process when it answers."""
        return self.start_service(
            api={'concurrency_backend': backend},
            # Nobody reads a pipe meanwhile.
            DEFAULT={'log_file': str(self.state_path / 'api.log')},
            snapshot={
                **content.PULL['snapshot'],
                'image_service': 'glance',
                'compression': 'off',
            },
            glance={
                'auth_type': 'none',
                'endpoint_override': self.proxy.url,
            },
        )

    def end_service(self, service: Any) -> None:
        """Tell it to end, and forget what it has done."""
        service.terminate()
        self.assertEqual(0, self.finish(service).returncode)
        self.delete_images()
        (self.state_path / 'api.sqlite').unlink()

    def stall(self) -> None:
        """Let Glance stand still in the middle of images from now on."""
        go_on = self.go_on = threading.Event()
        standing = self.standing = []
        self.addCleanup(go_on.set)

        def wait(request: fault_proxy.Request) -> None:
            standing.append(request.path)
            go_on.wait()

        self.proxy.clear()
        self.proxy.add(
            'PUT', '/file$', fault_proxy.Call(wait, after=TAKEN), times=None
        )

    def burst(self) -> api_burst.Burst:
        """Ask for images of the guests, all at once."""
        return api_burst.Burst(
            self.make_connection,
            self.headers,
            [
                api_burst.Request(
                    'POST',
                    f'/v2.1/servers/{guest.uuid}/action',
                    {'createImage': {'name': f'image {number}'}},
                )
                for number in range(REQUESTS // len(self.guests))
                for guest in self.guests
            ],
        )

    def records(self) -> list[image_api.Image]:
        """Return the images of the guests in Glance."""
        return [
            image
            for guest in self.guests
            for image in self.direct.list(instance_uuid=guest.uuid)
        ]

    def delete_images(self) -> None:
        """Delete the images of the guests."""
        self.go_on.set()
        for image in self.records():
            self.direct.delete(image.id)

    def actions(self, guest: guest_lib.Guest) -> list[dict[str, Any]]:
        """Return the actions on a guest, each with its events."""
        path = f'/v2.1/servers/{guest.uuid}/os-instance-actions'
        return [
            self.get(f'{path}/{action["request_id"]}')[1]['instanceAction']
            for action in self.get(path)[1]['instanceActions']
        ]

    def has_ended(self) -> bool:
        """Return True if no action on a guest is under way."""
        return all(
            action['events'] and action['events'][0]['result']
            for guest in self.guests
            for action in self.actions(guest)
        )

    def wait_for_moment(
        self, service: Any, burst: api_burst.Burst, moment: tuple[int, int]
    ) -> None:
        """Wait until so many requests are answered, and images are sent."""
        answered, sent = moment
        deadline = time.monotonic() + base.TIMEOUT
        while len(burst.answers) < answered or len(self.standing) < sent:
            self.assertIsNone(service.poll())
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.005)

    # What has to hold -----------------------------------------------------

    def assert_guests_as_found(self) -> None:
        """Check that the guests are as they were found."""
        for guest, found in zip(self.guests, self.found, strict=True):
            self.assert_as_found(guest, found)

    def assert_truth(self, accepted: dict[str, str]) -> None:
        """Check that what clients are told is so, and that nothing is lost.

        :param accepted: images by the IDs of requests that succeeded.
        """
        images = {image.id: image.status for image in self.records()}
        self.assertLessEqual(set(images.values()), {'active'})
        seen = set()
        for guest in self.guests:
            for action in self.actions(guest):
                seen.add(action['request_id'])
                (event,) = action['events']
                image_id = accepted.get(action['request_id'])
                if image_id is None:  # killed before its answer
                    continue
                is_active = images.get(image_id) == 'active'
                wanted = 'Success' if is_active else 'Error'
                self.assertEqual(wanted, event['result'], action)
        self.assertLessEqual(set(accepted), seen)

    def assert_database_sound(self) -> None:
        """Check the database of the instance actions."""
        path = self.state_path / 'api.sqlite'
        with contextlib.closing(sqlite3.connect(path)) as database:
            for check in ('integrity_check', 'foreign_key_check'):
                found = database.execute(f'PRAGMA {check}').fetchall()
                self.assertIn(found, ([('ok',)], []))

    def note(self, what: str, said: object) -> None:
        """Add a number to the details of the test."""
        print(f'{self.id()}: {what}: {said}', flush=True)
        self.addDetailUniqueName(what, base.text(str(said)))


class TestManyRequests(StressTestCase):
    """200 requests at once, and Glance stands still."""

    def check_answers(self, backend: str) -> None:
        """Send them again and again; every image is made in the end."""
        service = self.begin_service(backend)
        accepted: dict[str, str] = {}
        needs = []
        for number in ROUNDS:
            accepted |= self.images_of_one_burst(service, needs)
            self.note(f'{backend} {number}', needs[-1])
        self.assertEqual(len(ROUNDS) * 4, len(accepted))
        self.assert_truth(accepted)
        self.assert_all_made(accepted)
        self.assert_flat(needs)
        self.assert_guests_as_found()
        self.assert_nothing_left()
        self.assert_database_sound()
        self.end_service(service)

    def images_of_one_burst(
        self, service: Any, needs: list[api_burst.Needs]
    ) -> dict[str, str]:
        """Let one request for each guest of 200 succeed; return its image."""
        self.stall()
        answers = self.burst().wait()
        needs.append(api_burst.Needs.of(service.pid))
        self.note('answers', api_burst.distribution(answers))
        self.assert_answered(answers)
        self.go_on.set()
        self.wait_until(service, 'all has ended', self.has_ended)
        return accepted_of(answers)

    def assert_answered(self, answers: list[api_burst.Answer]) -> None:
        """Check that an image of each guest is begun, and the rest is 409."""
        statuses = collections.Counter(answer.status for answer in answers)
        self.assertEqual({202: 4, 409: REQUESTS - 4}, dict(statuses))
        taken = [answer for answer in answers if answer.status == 202]
        self.assertEqual(4, len({answer.request.path for answer in taken}))
        for answer in answers:
            if answer.status == 409:
                self.assertIn(
                    'while it is in task_state',
                    answer.document['conflictingRequest']['message'],
                )

    def assert_all_made(self, accepted: dict[str, str]) -> None:
        """Check that every image that was promised is there, with data."""
        made = {image.id for image in self.records() if image.size}
        self.assertLessEqual(set(accepted.values()), made)

    def assert_flat(self, needs: list[api_burst.Needs]) -> None:
        """Check that later rounds needed no more than the first."""
        first, last = needs[0], needs[-1]
        self.assertLess(last.memory, first.memory + MORE_MEMORY)
        self.assertLess(last.files, first.files + MORE_FILES)
        self.assertLess(last.threads, first.threads + MORE_FILES)

    def check_kills(self, backend: str) -> None:
        """Kill it among them, again and again; no promise is forgotten."""
        accepted: dict[str, str] = {}
        service = self.begin_service(backend)
        for moment in KILLS:
            self.stall()
            burst = self.burst()
            self.wait_for_moment(service, burst, moment)
            service.kill()
            service.wait()
            accepted |= accepted_of(burst.wait())
            began = time.monotonic()
            service = self.begin_service(backend)
            took = time.monotonic() - began
            self.note(f'{backend} {moment}', f'up after {took:.1f} s')
            self.assert_truth(accepted)
            self.assert_guests_as_found()
            self.assert_nothing_left()
            self.assert_database_sound()
            self.go_on.set()
        self.assertGreater(len(accepted), 0)
        # The guests are free for the next.
        self.assert_all_made(self.images_of_one_burst(service, []))
        self.end_service(service)

    def test_answers(self) -> None:
        for backend in ANSWERING:
            with self.subTest(backend=backend):
                self.check_answers(backend)

    def test_killed(self) -> None:
        for backend in KILLED:
            with self.subTest(backend=backend):
                self.check_kills(backend)


def accepted_of(answers: list[api_burst.Answer]) -> dict[str, str]:
    """Return the images that were promised, by the IDs of the requests."""
    return {
        answer.headers['x-openstack-request-id']: answer.document['image_id']
        for answer in answers
        if answer.status == 202
    }
