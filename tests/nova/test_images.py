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

"""Which login recovery has."""

from nova_snap import exception
from nova_snap.nova import images
from tests.nova import base

LOGIN = """
[{group}]
auth_type = password
username = nova
password = secret
project_name = service
user_domain_id = default
project_domain_id = default
"""


class LoginTest(base.NovaTestCase):
    """Of nova.conf; nothing is asked of a Keystone."""

    def test_none(self) -> None:
        service = images.of_the_service()
        error = self.assertRaises(
            exception.ImageNotPermitted, service.get, 'the-image'
        )
        self.assertIn('the-image', str(error))
        self.assertIn('[service_user]', str(error))

    def test_service_user(self) -> None:
        self.configure(LOGIN.format(group='service_user'))
        self.assertEqual('service_user', images.login_group())
        self.assertIs(images.ServiceImages, type(images.of_the_service()))

    def test_glance_comes_first(self) -> None:
        self.configure(
            LOGIN.format(group='service_user') + LOGIN.format(group='glance')
        )
        self.assertEqual('glance', images.login_group())
