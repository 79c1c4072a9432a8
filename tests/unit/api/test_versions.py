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

from tests.unit.api import base

LEGACY = 'X-OpenStack-Nova-API-Version'


class TestVersions(base.ApiTestCase):
    """The version documents."""

    def test_the_list_names_one_version_and_its_range(self) -> None:
        (version,) = self.get('/').json['versions']
        self.assertEqual('v2.1', version['id'])
        self.assertEqual('CURRENT', version['status'])
        self.assertEqual('2.1', version['min_version'])
        self.assertEqual('2.90', version['version'])

    def test_the_link_is_the_url_by_which_the_service_was_reached(
        self,
    ) -> None:
        answer = self.get('/v2.1', Host='snap.example:80')
        links = answer.json['version']['links']
        self.assertEqual('self', links[0]['rel'])
        self.assertEqual('http://snap.example/v2.1/', links[0]['href'])

    def test_with_and_without_a_slash(self) -> None:
        self.assertEqual(
            self.get('/v2.1').json['version'],
            self.get('/v2.1/').json['version'],
        )


class TestMicroversions(base.ApiTestCase):
    """The headers of a request, and of each answer."""

    def assert_version(self, version: str, answer: object) -> None:
        headers = answer.headers  # type: ignore[attr-defined]
        self.assertEqual(
            f'compute {version}', headers['OpenStack-API-Version']
        )
        self.assertEqual(version, headers[LEGACY])
        self.assertIn('OpenStack-API-Version', headers['Vary'])
        self.assertIn(LEGACY, headers['Vary'])

    def test_the_lowest_is_the_default(self) -> None:
        self.assert_version('2.1', self.get('/'))

    def test_either_header_chooses(self) -> None:
        self.assert_version('2.45', self.get('/', version='2.45'))
        answer = self.get('/', **{LEGACY: '2.46'})
        self.assert_version('2.46', answer)

    def test_latest_is_the_highest(self) -> None:
        self.assert_version('2.90', self.get('/', version='latest'))

    def test_out_of_range_is_not_acceptable(self) -> None:
        for version in ('2.0', '2.91', '3.1'):
            answer = self.get('/', version=version)
            self.assert_error(answer, 406, 'computeFault', version)
            self.assertIn('2.90', answer.text)
            self.assert_version('2.1', answer)

    def test_what_is_no_version_is_a_bad_request(self) -> None:
        answer = self.get('/', version='two')
        self.assert_error(answer, 400, 'badRequest', 'two')

    def test_every_answer_has_the_headers(self) -> None:
        answer = self.get('/v2.1/nothing', version='2.45')
        self.assert_error(answer, 404, 'itemNotFound', 'not be found')
        self.assert_version('2.45', answer)

    def test_every_answer_has_the_id_of_the_request(self) -> None:
        for path in ('/', '/v2.1/nothing'):
            headers = self.get(path).headers
            self.assertRegex(headers['x-openstack-request-id'], '^req-')
            self.assertEqual(
                headers['x-openstack-request-id'],
                headers['x-compute-request-id'],
            )

    def test_a_method_that_is_not_there(self) -> None:
        answer = self.call('DELETE', '/v2.1')
        self.assert_error(answer, 405, 'badMethod', 'not allowed')
        self.assertEqual('GET', answer.headers['Allow'])
