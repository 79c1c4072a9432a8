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


"""Rebuilds: answers, states, conflicts, and what is noted of them."""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import io
import pathlib
import threading
from typing import Any
from typing import BinaryIO
import uuid

from nova_snap import exception
from nova_snap import journal
from nova_snap import progress as progress_lib
from nova_snap.api import policies
from nova_snap.api import recovery
from nova_snap.api import request as request_lib
from nova_snap.api.db import models
from nova_snap.compute import power
from nova_snap.image import api as image_api
from nova_snap.objects import power_state
from nova_snap.virt import power as power_lib
from nova_snap.virt import rebuilding
from tests.unit import base as unit_base
from tests.unit.api import base
from tests.unit.compute import base as compute_base

SERVER = compute_base.INSTANCE.uuid
PATH = f'/v2.1/servers/{SERVER}/action'
DATA = b'the disk of an image'

PowerState = power_state.PowerState


class Replacement(rebuilding.Replacement):
    """A disk in a folder, in place of those of a guest."""

    def __init__(self, path: pathlib.Path, test: 'RebuildTestCase') -> None:
        self._path = path
        self._test = test

    @contextlib.contextmanager
    def files(self, _entry: journal.Entry) -> Iterator[Sequence[BinaryIO]]:
        with self._path.open('w+b') as file:
            yield [file]

    def inspect(self) -> None:
        self._test.wait_for_the_test()

    def finish(
        self, _entry: journal.Entry, _control: power_lib.Control
    ) -> None:
        if self._test.error is not None:
            raise self._test.error
        self._test.finished.append(self._path.read_bytes())


class Rebuild(rebuilding.Rebuild):
    """What a driver returns."""

    def __init__(self, test: 'RebuildTestCase') -> None:
        self._test = test

    def replacement(self, wanted: rebuilding.Wanted) -> Replacement:
        if self._test.refusal is not None:
            raise self._test.refusal
        self._test.wanted.append(wanted)
        return Replacement(self._test.file, self._test)

    def undo(self, *_arguments: Any) -> None:
        raise NotImplementedError

    def forget(self, _entry: journal.Entry) -> None:
        raise NotImplementedError


class RebuildTestCase(base.ApiTestCase):
    """Requests for a rebuild, which a test can hold."""

    def setUp(self) -> None:
        super().setUp()
        self.file = self.folder() / 'disk'
        self.wanted: list[rebuilding.Wanted] = []
        self.finished: list[bytes] = []
        self.refusal: Exception | None = None
        self.error: Exception | None = None
        self.begun, self.shall_end = threading.Event(), threading.Event()
        self.shall_end.set()
        self.patch(self.driver, 'rebuild', lambda *_arguments: Rebuild(self))
        self.image = self.make_image()
        self.addCleanup(self.wait_for_end)
        self.addCleanup(self.shall_end.set)

    def make_image(self, **fields: Any) -> str:
        """Make an image with data; return its ID."""
        record = image_api.Image(
            str(uuid.uuid4()), 'golden', 'queued', 'raw', 'bare'
        )
        self.images.create(dataclasses.replace(record, **fields))
        progress = progress_lib.Progress()
        self.images.upload(record.id, io.BytesIO(DATA), len(DATA), progress)
        return record.id

    def assert_nothing_is_left(self) -> None:
        """Check the journal; images are there before."""
        self.assertEqual([], list(self.journal.entries()))

    def wait_for_the_test(self) -> None:
        """Go on when the test says so."""
        self.begun.set()
        self.assertTrue(self.shall_end.wait(unit_base.PATIENCE))

    def wait_for_end(self) -> None:
        """Wait until nothing is going on any more."""
        self.wait_until(
            'every rebuild has ended', lambda: not list(self.services.rebuilds)
        )

    def rebuild(
        self, version: str = '2.90', image: str | None = None, **fields: Any
    ) -> Any:
        """Ask for a rebuild."""
        body = {'rebuild': {'imageRef': image or self.image, **fields}}
        return self.call('POST', PATH, body, version=version)

    def held(self) -> Any:
        """Begin a rebuild that is going on; return the answer."""
        self.shall_end.clear()
        self.begun.clear()
        answer = self.rebuild()
        self.assertEqual(202, answer.status_int, answer.text)
        self.assertTrue(self.begun.wait(unit_base.PATIENCE))
        return answer

    def shown(self) -> Any:
        """Return the server as a client sees it."""
        return self.get(f'/v2.1/servers/{SERVER}').json['server']

    def noted(self) -> models.Action:
        """Return the last action."""
        return self.services.actions.list(SERVER)[0]


class TestRebuild(RebuildTestCase):
    """From the request to the new disks."""

    def test_data_and_action(self) -> None:
        answer = self.rebuild()
        self.assertEqual(202, answer.status_int, answer.text)
        self.assertTrue(answer.location.endswith(f'/servers/{SERVER}'))
        server = answer.json['server']
        self.assertEqual(SERVER, server['id'])
        self.assertNotIn('adminPass', server)
        self.wait_for_end()
        self.assertEqual([DATA], self.finished)
        (wanted,) = self.wanted
        self.assertTrue(wanted.forgets)
        self.assertEqual(self.image, wanted.image)
        (event,) = self.noted().events
        self.assertEqual('rebuild', self.noted().action)
        self.assertEqual('compute_rebuild_instance', event.event)
        self.assertEqual('Success', event.result)
        self.assert_nothing_is_left()

    def test_state_meanwhile(self) -> None:
        self.driver.state = (PowerState.RUNNING, False)
        answer = self.held()
        self.assertEqual(self.image, answer.json['server']['image']['id'])
        shown = self.shown()
        self.assertEqual('REBUILD', shown['status'])
        self.assertEqual('active', shown['OS-EXT-STS:vm_state'])
        self.assertEqual(self.image, shown['image']['id'])
        self.assertEqual(100, shown['progress'])
        self.assertEqual(
            'rebuild_block_device_mapping', shown['OS-EXT-STS:task_state']
        )
        for body in (
            {'rebuild': {'imageRef': self.image}},
            {'createImage': {'name': 'x'}},
            {'os-stop': None},
        ):
            answer = self.call('POST', PATH, body, version='2.45')
            self.assert_error(
                *(answer, 409, 'conflictingRequest'),
                'while it is in task_state rebuild_block_device_mapping',
            )
        self.shall_end.set()
        self.wait_for_end()
        self.assertEqual('ACTIVE', self.shown()['status'])

    def test_failure(self) -> None:
        self.error = exception.HypervisorError(
            action='start it', reason='x', code=1
        )
        self.assertEqual(202, self.rebuild().status_int)
        self.wait_for_end()
        (event,) = self.noted().events
        self.assertEqual('Error', event.result)
        self.assert_nothing_is_left()

    def test_while_a_snapshot_is_taken(self) -> None:
        with self.locks.instance(SERVER):
            answer = self.rebuild()
        self.assert_error(
            answer, 409, 'conflictingRequest', 'task_state image_snapshot'
        )

    def test_stopping(self) -> None:
        self.services.rebuilds.close()
        self.assertEqual(503, self.rebuild().status_int)

    def test_cancelled_when_the_service_ends(self) -> None:
        self.held()
        (work,) = self.services.rebuilds
        work.cancel('x')
        self.shall_end.set()
        self.services.rebuilds.stop(unit_base.PATIENCE)
        self.assertEqual([], self.finished)
        (event,) = self.noted().events
        self.assertEqual('Error', event.result)

    def test_interrupted_action(self) -> None:
        number = self.services.actions.begin(
            self.context('req-1'), SERVER, 'rebuild'
        )
        powers = power.PowerManager(self.driver, self.manager)
        found = recovery.Recovery(
            self.manager, self.images, self.services.actions, powers.vm_state
        )
        self.assertTrue(found.attempt())
        (event,) = self.noted().events
        self.assertEqual(number, self.noted().id)
        self.assertEqual('compute_rebuild_instance', event.event)
        self.assertIn('those of the image', event.details or '')


class TestRefused(RebuildTestCase):
    """What is refused, in Nova's words; nothing is begun."""

    def assert_refused(self, answer: Any, status: int, message: str) -> None:
        """Check an answer, and that nothing was begun."""
        name = {
            400: 'badRequest',
            403: 'forbidden',
            409: 'conflictingRequest',
        }[status]
        self.assert_error(answer, status, name, message)
        self.assertEqual([], self.services.actions.list(SERVER))
        self.assertEqual([], self.finished)
        self.assert_nothing_is_left()

    def test_states(self) -> None:
        for state, is_saved, sentence in (
            (PowerState.PAUSED, False, 'vm_state paused'),
            (PowerState.SHUTDOWN, True, 'vm_state suspended'),
            (PowerState.NOSTATE, False, "invalid state for 'rebuild'"),
        ):
            self.driver.state = (state, is_saved)
            self.assert_refused(self.rebuild(), 409, sentence)
        for state in (PowerState.SHUTDOWN, PowerState.CRASHED):
            self.driver.state = (state, False)
            self.assertEqual(202, self.rebuild().status_int)
            self.wait_for_end()

    def small(self, details: Any) -> Any:
        """Return a reading of the server whose flavor has a disk of 1 GiB."""

        def read(instance_uuid: str) -> Any:
            found = details(instance_uuid)
            flavor = dataclasses.replace(found.flavor, root_gb=1)
            return dataclasses.replace(found, flavor=flavor)

        return read

    def test_images(self) -> None:
        self.patch(self.driver, 'details', self.small(self.driver.details))
        queued = image_api.Image(
            str(uuid.uuid4()), 'x', 'queued', 'raw', 'bare'
        )
        self.images.create(queued)
        for image, message in (
            (str(uuid.uuid4()), 'Cannot find image for rebuild'),
            (queued.id, f'Image {queued.id} is not active.'),
            (self.make_image(min_ram=1 << 20), "Flavor's memory is too small"),
            (self.make_image(min_disk=1 << 20), "Flavor's disk is smaller"),
            ('x', 'imageRef'),
        ):
            self.assert_refused(self.rebuild(image=image), 400, message)

    def test_what_the_driver_refuses(self) -> None:
        self.refusal = exception.UnsafeImage(image='I', reason='it is vmdk')
        self.assert_refused(
            *(self.rebuild(), 400),
            f'Image {self.image} is unacceptable: I cannot become',
        )
        self.refusal = exception.RebuildRefused(server=SERVER, reason='/etc')
        self.assert_refused(self.rebuild(), 409, '')
        self.refusal = exception.Invalid('There is no such disk.')
        self.assert_refused(self.rebuild(), 400, '')

    def test_fields_that_are_not_changed(self) -> None:
        address = '2001:db8::1'
        for fields, message in (
            ({'name': 'another'}, 'attribute name'),
            ({'description': 'x'}, 'attribute description'),
            ({'hostname': 'another'}, 'attribute hostname'),
            ({'metadata': {'a': 'b'}}, 'attribute metadata'),
            ({'user_data': 'eA=='}, 'attribute user_data'),
            ({'accessIPv4': '192.0.2.1'}, 'attribute accessIPv4'),
            ({'accessIPv6': address}, 'attribute accessIPv6'),
            ({'adminPass': 'x'}, 'Set admin password is not supported'),
            ({'key_name': 'x'}, 'Invalid key_name provided.'),
            ({'preserve_ephemeral': True}, 'preserving ephemeral partitions'),
            ({'preserve_ephemeral': 'yes'}, 'preserving ephemeral'),
            ({'OS-DCF:diskConfig': 'AUTO'}, 'automatic disk resize disabled'),
            ({'trusted_image_certificates': ['x']}, 'certificate validation'),
        ):
            self.assert_refused(self.rebuild(**fields), 400, message)
        personality = [{'path': '/x', 'contents': 'eA=='}]
        self.assert_refused(
            self.rebuild('2.56', personality=personality), 400, 'personality'
        )

    def test_fields_that_are_so_already(self) -> None:
        answer = self.rebuild(
            name=self.shown()['name'],
            description=None,
            metadata={},
            user_data=None,
            key_name=None,
            preserve_ephemeral=False,
            trusted_image_certificates=None,
            **{'OS-DCF:diskConfig': 'MANUAL'},
        )
        self.assertEqual(202, answer.status_int, answer.text)

    def test_policies(self) -> None:
        for name, fields in (
            ('rebuild', {}),
            ('rebuild:trusted_certs', {'trusted_image_certificates': None}),
        ):
            rule = policies.SERVERS % name
            self.patch(
                request_lib.Request,
                'allows',
                lambda _request, asked, *_project, rule=rule: asked != rule,
            )
            self.assert_refused(self.rebuild(**fields), 403, rule)

    def test_fields_of_other_versions(self) -> None:
        for version, fields in (
            ('2.18', {'description': None}),
            ('2.53', {'key_name': None}),
            ('2.56', {'user_data': None}),
            ('2.57', {'personality': []}),
            ('2.62', {'trusted_image_certificates': None}),
            ('2.89', {'hostname': 'x1'}),
            ('2.1', {'another': 'x'}),
        ):
            self.assert_refused(self.rebuild(version, **fields), 400, '')

    def test_malformed(self) -> None:
        for fields in (
            {'accessIPv4': '2001:db8::1'},
            {'accessIPv6': '192.0.2.1'},
            {'accessIPv4': 'x'},
            {'user_data': 'x'},
            {'hostname': '-'},
            {'name': ' x'},
        ):
            self.assert_refused(self.rebuild(**fields), 400, '')
