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


import testtools

from nova_snap import exception
from nova_snap.clients import http_errors
from nova_snap.image import glance_errors


class TranslateTest(testtools.TestCase):
    def translate(self, status, image_id='an-id', body='{"message": "why"}'):
        return glance_errors.translate(
            http_errors.HTTPError(status, body), image_id, 'http://glance'
        )

    def test_table(self):
        for status, expected in (
            (400, exception.ImageRejected),
            (401, exception.ImageLoginRefused),
            (403, exception.ImageNotPermitted),
            (404, exception.ImageNotFound),
            (405, exception.ImageRejected),
            (409, exception.ImageConflict),
            (410, exception.ImageConflict),
            (413, exception.ImageTooLarge),
            (415, exception.ImageRejected),
            (429, exception.ImageServiceUnavailable),
            (500, exception.ImageServiceUnavailable),
            (501, exception.ImageServiceUnavailable),
            (503, exception.ImageServiceUnavailable),
            (302, exception.ImageServiceUnavailable),
        ):
            error = self.translate(status)
            self.assertIs(expected, type(error), status)

    def test_the_sentence_is_in_the_message(self):
        for status in (400, 401, 403, 409, 413, 503):
            self.assertIn('why', str(self.translate(status)))

    def test_a_404_without_an_image_means_a_wrong_address(self):
        error = self.translate(404, None)
        self.assertIs(exception.ImageServiceUnavailable, type(error))
        self.assertIn('http://glance', str(error))
