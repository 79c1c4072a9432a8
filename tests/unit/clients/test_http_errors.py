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

from nova_snap.clients import http_errors

WEBOB_PAGE = """<html>
 <head>
  <title>409 Conflict</title>
 </head>
 <body>
  <h1>409 Conflict</h1>
  Image status transition from saving to saving is not allowed<br /><br />


 </body>
</html>"""
WEBOB_JSON = (
    '{"message": "The request media type application/octet-stream is not '
    'supported by this server.<br /><br />\\nImage failed safety checks'
    '\\n\\n\\n", "code": "415 Unsupported", "title": "Unsupported"}'
)


class SentenceTest(testtools.TestCase):
    def test_bodies(self):
        for body, expected in (
            (
                WEBOB_PAGE,
                'Image status transition from saving to saving is not allowed',
            ),
            (WEBOB_JSON, 'Image failed safety checks'),
            ('{"error": {"code": 401, "message": "Log in."}}', 'Log in.'),
            ('{"message": "a &lt; b"}', 'a < b'),
            ('1 < 2 <b>and</b> <<b>', '1 < 2 and <'),
            ('Quota\n  exceeded.\n', 'Quota exceeded.'),
            ('<html><h1>503 Service Unavailable</h1></html>', ''),
            ('[1, 2]', '[1, 2]'),
            ('', ''),
        ):
            self.assertEqual(expected, http_errors.sentence(body))

    def test_long_body_is_cut(self):
        self.assertEqual(500, len(http_errors.sentence('x' * 10000)))

    def test_only_the_beginning_of_a_long_body_is_looked_at(self):
        body = 'Quota exceeded.' + '\n' * 5000 + 'Rest.'
        for whole in (body, json.dumps({'message': body})):
            self.assertEqual('Quota exceeded.', http_errors.sentence(whole))

    def test_message_behind_much_else_is_found(self):
        body = json.dumps({'trace': 'x' * 100000, 'message': 'Log in.'})
        self.assertEqual('Log in.', http_errors.sentence(body))

    def test_body_that_is_nested_too_deep_is_quoted(self):
        for body in ('[' * 100000, '{"a":' * 100000):
            self.assertEqual(body[:500], http_errors.sentence(body))
