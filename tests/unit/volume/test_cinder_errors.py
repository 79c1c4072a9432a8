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

import json

import testtools

from nova_snap import exception
from nova_snap.clients import http_errors
from nova_snap.volume import cinder_errors

VOLUME = cinder_errors.Subject(volume_id='a-volume')
SNAPSHOT = cinder_errors.Subject(snapshot_id='a-snapshot')


class TranslateTest(testtools.TestCase):
    def translate(self, status, subject=VOLUME, message='why'):
        refused = http_errors.HTTPError(
            status, json.dumps({'fault': {'message': message}})
        )
        return cinder_errors.translate(refused, subject, 'http://cinder')

    def test_table(self):
        for status, expected in (
            (302, exception.VolumeServiceUnavailable),
            (400, exception.VolumeRejected),
            (401, exception.VolumeNotPermitted),
            (403, exception.VolumeNotPermitted),
            (404, exception.VolumeNotFound),
            (409, exception.VolumeConflict),
            (413, exception.VolumeQuotaExceeded),
            (429, exception.VolumeServiceUnavailable),
            (500, exception.VolumeServiceUnavailable),
            (503, exception.VolumeServiceUnavailable),
        ):
            self.assertIs(expected, type(self.translate(status)), status)

    def test_the_sentence_is_in_the_message(self):
        for status in (400, 401, 403, 409, 413, 500):
            self.assertIn('why', str(self.translate(status)))

    def test_what_is_missing_is_named(self):
        self.assertIn('a-volume', str(self.translate(404)))
        error = self.translate(404, SNAPSHOT)
        self.assertIs(exception.VolumeSnapshotNotFound, type(error))
        self.assertIn('a-snapshot', str(error))

    def test_a_404_about_nothing_means_a_wrong_address(self):
        error = self.translate(404, cinder_errors.Subject())
        self.assertIs(exception.VolumeServiceUnavailable, type(error))
        self.assertIn('http://cinder', str(error))

    def test_a_state_that_does_not_allow_it_is_a_conflict(self):
        for message in (
            'Invalid snapshot: Volume Snapshot status must be available',
            'Invalid volume: Volume status must be in-use',
        ):
            error = self.translate(400, SNAPSHOT, message)
            self.assertIs(exception.VolumeConflict, type(error))
            self.assertIn('a-snapshot', str(error))
