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


"""The Glance adapter against a real Glance that fails."""

import datetime
import json
import logging

import fixtures

from nova_snap import exception
from nova_snap import progress
from tests.functional.image import base
from tests.lab import fault_proxy

MiB = base.MiB

REFUSALS = {
    400: exception.ImageRejected,
    401: exception.ImageLoginRefused,
    403: exception.ImageNotPermitted,
    404: exception.ImageNotFound,
    409: exception.ImageConflict,
    410: exception.ImageConflict,
    413: exception.ImageTooLarge,
    415: exception.ImageRejected,
}
PASSING = (429, 500, 502, 503, 504)


class RefusalTest(base.GlanceTestCase):
    def test_upload_that_is_refused_is_not_repeated(self):
        for status, expected in REFUSALS.items():
            self.proxy.clear()
            image_id = self.new_image()
            self.fail_upload(fault_proxy.Answer(status, b'because'))
            self.assertRaises(expected, self.upload, image_id, bytes(MiB))
            self.assertEqual(1, self.uploads(), status)
            self.assert_left(image_id, 'queued')

    def test_every_other_call(self):
        image_id = self.new_image()
        for status, expected in REFUSALS.items():
            self.proxy.clear()
            self.proxy.add('*', '/v2/images', fault_proxy.Answer(status), None)
            self.assertRaises(expected, self.service.get, image_id)
            self.assertRaises(
                expected, self.service.update, image_id, name='x'
            )
            if status != 404:
                self.assertRaises(expected, self.service.delete, image_id)
                self.assertRaises(expected, self.service.create, base.record())
                self.assertRaises(expected, self.service.list)

    def test_deleted_during_the_upload(self):
        image_id = self.new_image()

        def delete(request):
            self.direct().delete(image_id)

        self.fail_upload(fault_proxy.Call(delete, after=2 * MiB))
        self.assertRaises(
            exception.ImageNotFound, self.upload, image_id, bytes(8 * MiB)
        )
        self.assertFalse(
            (self.glance.directory / 'images' / image_id).exists()
        )

    def test_other_size_or_hash_or_status_than_expected(self):
        for fields in (
            {'size': MiB - 1},
            {'os_hash_value': '0' * 128},
            {'os_hash_algo': 'sha256', 'os_hash_value': '0' * 64},
            {'status': 'killed'},
        ):
            image_id = self.new_image()
            self.lie(image_id, **fields)
            error = self.assertRaises(
                exception.ImageCorrupt, self.upload, image_id, bytes(MiB)
            )
            self.assertIn(error.found, fields.values())
            self.assert_left(image_id, 'active')

    def test_no_hash_or_an_unknown_one_is_no_error(self):
        for fields in (
            {'os_hash_algo': None, 'os_hash_value': None},
            {'os_hash_algo': 'quantum', 'os_hash_value': '0'},
        ):
            image_id = self.new_image()
            self.lie(image_id, **fields)
            self.assertEqual(MiB, self.upload(image_id, bytes(MiB)).size)


class PassingTest(base.GlanceTestCase):
    def test_once(self):
        for status in PASSING:
            self.proxy.clear()
            image_id = self.new_image()
            self.fail_upload(fault_proxy.Answer(status))
            data = base.random_bytes(MiB)
            self.assertEqual('active', self.upload(image_id, data).status)
            self.assertEqual(data, self.stored(image_id))
            self.assertEqual(2, self.uploads())

    def test_always(self):
        for status in PASSING:
            self.proxy.clear()
            image_id = self.new_image()
            self.fail_upload(fault_proxy.Answer(status), None)
            self.assertRaises(
                exception.ImageServiceUnavailable,
                self.upload,
                image_id,
                bytes(MiB),
            )
            self.assertEqual(1 + self.num_retries, self.uploads())
            self.assert_left(image_id, 'queued')

    def test_refused_after_a_part_of_the_data(self):
        image_id = self.new_image()
        self.fail_upload(fault_proxy.Answer(503, after=3 * MiB))
        data = base.random_bytes(8 * MiB)
        self.assertEqual('active', self.upload(image_id, data).status)
        self.assertEqual(data, self.stored(image_id))

    def test_other_calls_are_repeated(self):
        image_id = self.new_image()
        for method in ('GET', 'PATCH', 'DELETE', 'POST'):
            self.proxy.add(method, '/v2/images', fault_proxy.Answer(503))
        self.service.get(image_id)
        self.service.update(image_id, name='x')
        self.service.delete(image_id)
        self.new_image()
        self.assertRaises(exception.ImageNotFound, self.direct().get, image_id)

    def test_pipe_that_was_read_is_not_repeated(self):
        data = base.random_bytes(4 * MiB)
        image_id = self.new_image()
        self.fail_upload(fault_proxy.CutRequest(2 * MiB))
        self.assertRaises(
            exception.ImageServiceUnavailable,
            self.service.upload,
            image_id,
            base.Pipe(data),
            None,
            progress.Progress(),
        )
        self.assertEqual(1, self.uploads())


class ConnectionTest(base.GlanceTestCase):
    def test_cut_in_the_middle_of_the_data(self):
        for after in (0, 1, 3 * MiB + 7):
            self.proxy.clear()
            image_id = self.new_image()
            self.fail_upload(fault_proxy.CutRequest(after))
            data = base.random_bytes(8 * MiB)
            self.assertEqual('active', self.upload(image_id, data).status)
            self.assertEqual(data, self.stored(image_id))
            # More than 2 if Glance still takes the first one for under way,
            # and answers 503.
            self.assertLess(1, self.uploads())

    def test_answer_lost(self):
        """All arrived: nothing is sent again, not even from a pipe."""
        image_id = self.new_image()
        self.fail_upload(fault_proxy.CutResponse())
        data = base.random_bytes(2 * MiB)
        image = self.service.upload(
            image_id, base.Pipe(data), len(data), progress.Progress()
        )
        self.assertEqual('active', image.status)
        self.assertEqual(1, self.uploads())

    def test_answer_of_another_call_cut(self):
        image_id = self.new_image()
        self.proxy.add('GET', image_id, fault_proxy.CutResponse(250))
        self.assertEqual(image_id, self.service.get(image_id).id)
        self.assertEqual(2, self.proxy.count('GET', image_id))

    def test_nobody_there(self):
        url = self.proxy.url
        self.proxy.stop()
        error = self.assertRaises(
            exception.ImageServiceUnavailable, self.service.list
        )
        self.assertIn('refused', str(error))
        self.assertIn(url, str(error))

    def test_another_server_there(self):
        self.proxy.add('GET', '/', fault_proxy.Answer(404), None)
        error = self.assertRaises(
            exception.ImageServiceUnavailable,
            self.service.get,
            base.record().id,
        )
        self.assertIn('no image API', str(error))

    def test_cancelled_between_two_tries(self):
        self.useFixture(
            fixtures.MonkeyPatch('nova_snap.clients.retry.FIRST_PAUSE', 20.0)
        )
        watch = progress.Progress('server')

        def answer(request):
            watch.cancel('enough')
            return fault_proxy.Answer(503)

        image_id = self.new_image()
        self.fail_upload(fault_proxy.Call(answer))
        self.assertRaises(
            exception.SnapshotCancelled,
            self.upload,
            image_id,
            bytes(MiB // 2),
            watch,
        )
        self.assertEqual(1, self.uploads())


class StallTest(base.GlanceTestCase):
    #: More than Glance needs for an answer on a busy host.
    timeout = 4

    def test_stall_in_the_middle_of_the_data(self):
        """Glance has the image in saving until the stall ends."""
        image_id = self.new_image()
        self.fail_upload(fault_proxy.Stall(2 * MiB, seconds=6))
        data = base.random_bytes(32 * MiB)
        self.assertEqual('active', self.upload(image_id, data).status)
        self.assertEqual(data, self.stored(image_id))

    def test_no_answer_ever(self):
        self.proxy.add('GET', '/v2/images', fault_proxy.Stall(), None)
        error = self.assertRaises(
            exception.ImageServiceUnavailable, self.service.list
        )
        self.assertIn('timed out', str(error))


class LoginTest(base.GlanceTestCase):
    """keystoneauth's own login, at an identity service that answers as told.

    Only the tokens are made up; they are checked where Keystone's middleware
    would, in front of Glance.
    """

    def setUp(self):
        super().setUp()
        self.tokens = []
        self.revoked = set()
        self.lifetime = datetime.timedelta(hours=1)
        self.keystone = fault_proxy.FaultProxy(self.glance.url)
        self.keystone.start()
        self.addCleanup(self.keystone.stop)
        self.service = self.make_login_service()

    def open_keystone(self):
        self.keystone.add(
            'POST', '/v3/auth/tokens', fault_proxy.Call(self.issue), None
        )
        self.proxy.add('*', '/v2', fault_proxy.Call(self.check), None)

    def make_login_service(self):
        login = (
            'auth_type = v3password\n'
            f'auth_url = {self.keystone.url}/v3\n'
            'username = nova\npassword = opensesame\n'
            'user_domain_id = default\nproject_name = service\n'
            'project_domain_id = default\n'
        )
        directory = self.useFixture(fixtures.TempDir()).path
        conf = base.make_conf(
            directory,
            f'[glance]\n{login}endpoint_override = {self.proxy.url}\n'
            f'num_retries = 1\n'
            f'[service_user]\nsend_service_user_token = true\n{login}',
        )
        return base.glance.GlanceImageService.from_conf(conf)

    def issue(self, request):
        token = f'secret-token-{len(self.tokens)}'
        self.tokens.append(token)
        now = datetime.datetime.now(datetime.UTC)
        body = {
            'token': {
                'methods': ['password'],
                'user': {'id': 'u', 'name': 'n', 'domain': {'id': 'default'}},
                'issued_at': f'{now:%Y-%m-%dT%H:%M:%S}.000000Z',
                'expires_at': f'{now + self.lifetime:%Y-%m-%dT%H:%M:%S}Z',
                'audit_ids': [],
            }
        }
        return fault_proxy.Answer(
            201,
            json.dumps(body).encode(),
            'application/json',
            (('X-Subject-Token', token),),
        )

    def check(self, request):
        sent = {
            request.headers.get('x-auth-token'),
            request.headers.get('x-service-token'),
        }
        if len(sent) == 2 and sent <= set(self.tokens) - self.revoked:
            return None
        return fault_proxy.Answer(401, b'Unauthorized')

    def put_tokens(self):
        return [
            request.headers['x-auth-token']
            for request in self.proxy.requests
            if request.method == 'PUT'
        ]

    def test_token_revoked_during_the_upload_is_replaced(self):
        """All of the data is sent again, not what was left of it."""

        def revoke(request):
            self.revoked.update(self.tokens)
            return fault_proxy.Answer(401, b'Unauthorized')

        self.fail_upload(fault_proxy.Call(revoke, after=3 * MiB))
        self.open_keystone()
        image_id = self.new_image()
        data = base.random_bytes(8 * MiB)
        self.assertEqual('active', self.upload(image_id, data).status)
        self.assertEqual(data, self.stored(image_id))
        self.assertEqual(4, len(self.tokens))
        self.assertEqual(2, len(set(self.put_tokens())))

    def test_token_that_expires_soon_is_renewed_first(self):
        self.lifetime = datetime.timedelta(minutes=10)
        self.open_keystone()
        image_id = self.new_image()
        before = set(self.tokens)
        self.upload(image_id, bytes(MiB))
        self.assertNotIn(self.put_tokens()[0], before)

    def test_token_that_lives_on_is_used_on(self):
        self.open_keystone()
        image_id = self.new_image()
        before = set(self.tokens)
        self.upload(image_id, bytes(MiB))
        self.assertIn(self.put_tokens()[0], before)

    def test_no_secret_is_logged(self):
        log = self.useFixture(fixtures.FakeLogger(level=logging.DEBUG))
        self.test_token_revoked_during_the_upload_is_replaced()
        self.assertIn('X-Auth-Token', log.output)
        self.assertNotIn('secret-token', log.output)
        self.assertNotIn('opensesame', log.output)

    def test_wrong_password(self):
        self.keystone.add('POST', '', fault_proxy.Answer(401), None)
        error = self.assertRaises(
            exception.ImageNotPermitted, self.service.list
        )
        self.assertIn('Keystone', str(error))

    def test_keystone_busy_and_keystone_gone(self):
        self.keystone.add('POST', '', fault_proxy.Answer(503), 1)
        self.open_keystone()
        self.service.get(self.new_image())
        self.keystone.stop()
        self.revoked.update(self.tokens)
        self.assertRaises(exception.ImageServiceUnavailable, self.service.list)
