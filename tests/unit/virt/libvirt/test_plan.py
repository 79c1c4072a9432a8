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


"""What the options of the driver mean for a root disk in Ceph."""

import dataclasses
import pathlib

from nova_snap.virt import decision
from nova_snap.virt.libvirt import plan
from nova_snap.virt.libvirt.extraction import rbd_direct
from nova_snap.virt.storage import disk_source as storage
from tests.unit import base

MIRROR = decision.Method.MIRROR
PULL = decision.Method.PULL
RBD_DIRECT = decision.Method.RBD_DIRECT

LOCATION = storage.RbdLocation('vms', 'disk', hosts=(('192.0.2.1', '6789'),))


class OptionsTest(base.TestCase):
    """Methods, and what a definition does not say."""

    def options(self, **rbd: str) -> plan.Options:
        return plan.Options(
            pathlib.Path('/snapshots'),
            ceph_conf='/nowhere/ceph.conf',
            rbd=rbd_direct.Options(**rbd),
        )

    def test_methods_inside_ceph(self) -> None:
        options = self.options(pool='images')
        self.assertEqual(
            (RBD_DIRECT, MIRROR, PULL),
            options.methods(storage.SourceType.RBD),
        )
        self.assertEqual((MIRROR,), options.methods(storage.SourceType.QCOW2))

    def test_methods_without_a_pool(self) -> None:
        options = self.options()
        self.assertEqual((MIRROR,), options.methods(storage.SourceType.RBD))

    def test_user_of_the_definition_first(self) -> None:
        options = self.options(user='nova', secret='a-secret')
        self.assertEqual('nova', options.completed(LOCATION).user)
        self.assertEqual('a-secret', options.completed(LOCATION).secret)
        other = dataclasses.replace(LOCATION, user='cinder')
        self.assertEqual(other, options.completed(other))

    def test_ceph_conf_that_is_missing(self) -> None:
        options = self.options()
        self.assertIsNone(options.completed(LOCATION).conf)
        # Without monitors nothing else says where the cluster is.
        nowhere = dataclasses.replace(LOCATION, hosts=())
        self.assertEqual('/nowhere/ceph.conf', options.completed(nowhere).conf)
