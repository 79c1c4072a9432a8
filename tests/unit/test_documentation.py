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

"""Tests of what the documentation tells a user to write."""

import textwrap

from tests.lab import clients
from tests.unit import base

#: Where the lines stand.
FILES = ('README.rst', 'doc/source/admin/api-reading.rst')


class CloudsTest(base.TestCase):
    """clouds.yaml, as the tests of the clients have it."""

    def test_without_keystone(self) -> None:
        tested = clients.WITHOUT_KEYSTONE.format(url='http://127.0.0.1:8774')
        for name in FILES:
            text = (base.REPOSITORY / name).read_text()
            self.assertIn(textwrap.indent(tested, '   '), text, name)
