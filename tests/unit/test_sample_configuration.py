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

"""The samples are what the options and the policies make of them."""

import difflib
import pathlib
import tempfile

from oslo_config import cfg
from oslo_config import generator
from oslo_policy import generator as policy_generator

from tests.unit import base

FOLDER = base.REPOSITORY / 'etc' / 'nova_snap'


class SampleConfigurationTest(base.TestCase):
    def test_is_up_to_date(self) -> None:
        """To update it: oslo-config-generator with the file below."""
        with tempfile.NamedTemporaryFile() as made:
            generator.main(
                [
                    f'--config-file={FOLDER / "config-generator.conf"}',
                    f'--output-file={made.name}',
                ]
            )
            wanted = pathlib.Path(made.name).read_text().splitlines()
        found = (FOLDER / 'nova_snap.conf.sample').read_text().splitlines()
        self.assertEqual([], list(difflib.unified_diff(found, wanted)))


class SamplePolicyTest(base.TestCase):
    def test_is_up_to_date(self) -> None:
        """To update it: oslopolicy-sample-generator with the file below."""
        with tempfile.NamedTemporaryFile() as made:
            policy_generator.generate_sample(
                [
                    f'--config-file={FOLDER / "policy-generator.conf"}',
                    f'--output-file={made.name}',
                ],
                cfg.ConfigOpts(),
            )
            wanted = pathlib.Path(made.name).read_text().splitlines()
        found = (FOLDER / 'policy.yaml.sample').read_text().splitlines()
        self.assertEqual([], list(difflib.unified_diff(found, wanted)))
