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

"""The options of [nova_snap]."""

from oslo_config import cfg

from nova_snap import factory
from nova_snap.conf import nova
from nova_snap.conf import snapshot
from nova_snap.virt import decision
from tests.unit import base


class OptionsTest(base.TestCase):
    """Registered on a configuration that is not ours."""

    def setUp(self) -> None:
        super().setUp()
        self.conf = cfg.ConfigOpts()
        nova.register_opts(self.conf)

    def parse(self, text: str = '') -> cfg.ConfigOpts:
        """Read a nova.conf."""
        path = self.folder() / 'nova.conf'
        path.write_text(f'[nova_snap]\n{text}\n')
        self.conf(args=[], default_config_files=[str(path)])
        return self.conf

    def test_same_defaults_as_stand_alone(self) -> None:
        alone = cfg.ConfigOpts()
        snapshot.register_opts(alone)
        alone(args=[], default_config_files=[])
        group = self.parse().nova_snap
        shared = set(group) & set(alone.snapshot)
        self.assertIn('live_method', shared)
        for name in shared:
            self.assertEqual(alone.snapshot[name], group[name], name)

    def test_where_images_go_is_not_ours_to_say(self) -> None:
        self.assertNotIn('image_service', self.parse().nova_snap)

    def test_method_is_read(self) -> None:
        group = self.parse('live_method = auto').nova_snap
        self.assertEqual(
            (decision.Method.PULL, decision.Method.MIRROR),
            factory.LIVE_METHODS[group.live_method],
        )

    def test_unknown_method_is_refused(self) -> None:
        conf = self.parse('live_method = magic')
        self.assertRaises(
            cfg.ConfigFileValueError, lambda: conf.nova_snap.live_method
        )
