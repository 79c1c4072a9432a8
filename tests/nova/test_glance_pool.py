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
"""How Glance's pool in Ceph is found; here Ceph and Glance are doubles.

With a real Ceph and a real Glance: tests/openstack/test_rbd_direct.py.
"""

from collections.abc import Iterator
import contextlib
import types
from typing import Any
from unittest import mock

from nova import exception as nova_exception

from nova_snap import exception
from nova_snap.nova import glance_pool
from nova_snap.nova import settings
from nova_snap.objects import instance as instance_lib
from nova_snap.virt.libvirt import rbd_steps
from nova_snap.virt.storage import disk_source as storage
from tests.nova import base

DISK = storage.RbdLocation(pool='vms', image='disk')
SERVER = instance_lib.Instance('uuid', 'web')

ELSEWHERE = 'rbd://other/images/i/snap'
HERE = 'rbd://the%2Dcluster/glance%20images/i/snap'


class FindTest(base.NovaTestCase):
    """In the order of the rules."""

    def setUp(self) -> None:
        super().setUp()
        self.parent: str | None = None
        self.locations: tuple[str, ...] = ()

    @contextlib.contextmanager
    def connected(self, *_arguments: Any) -> Iterator[Any]:
        """Be the cluster."""
        yield types.SimpleNamespace(
            parent_pool=lambda _disk: self.parent, fsid=lambda: 'the-cluster'
        )

    def find(self, disk: storage.RbdLocation | None = DISK) -> str | None:
        """Return the pool that is found."""
        self.patch(rbd_steps, 'connected', self.connected)
        driver: Any = types.SimpleNamespace(rbd_root_disk=lambda _: disk)
        return glance_pool.find(
            mock.Mock(), driver, SERVER, lambda: self.locations
        )

    def test_not_known(self) -> None:
        self.assertIsNone(self.find())
        self.locations = (ELSEWHERE, 'file:///i', 'http://the-cluster/a/b/c')
        self.assertIsNone(self.find())

    def test_of_the_base_image(self) -> None:
        self.locations = (ELSEWHERE, HERE)
        self.assertEqual('glance images', self.find())

    def test_of_the_image_that_the_disk_is_a_clone_of(self) -> None:
        self.locations = (HERE,)
        self.parent = 'images'
        self.assertEqual('images', self.find())

    def test_option_of_nova(self) -> None:
        self.configure('[glance]\nrbd_pool = named\n')
        self.parent = 'images'
        self.assertEqual('named', self.find())

    def test_disk_elsewhere(self) -> None:
        self.parent = 'images'
        self.assertIsNone(self.find(disk=None))

    def test_without_a_connection(self) -> None:
        """The disk is read, so this is no error."""
        error = exception.CephError(action='connect', reason='no.')
        self.patch(self, 'connected', mock.Mock(side_effect=error))
        self.assertIsNone(self.find())
        self.assertIn('failed to connect', self.log.output)

    def test_base_image_is_deleted_or_none(self) -> None:
        gone = nova_exception.ImageNotFound(image_id='i')
        api = mock.Mock(get=mock.Mock(side_effect=gone))
        self.assertEqual([], glance_pool.locations_of(api, None, 'i'))
        api = mock.Mock(get=mock.Mock(side_effect=AssertionError))
        self.assertEqual([], glance_pool.locations_of(api, None, ''))
        shown = {'locations': [{'url': HERE, 'metadata': {}}]}
        api = mock.Mock(get=mock.Mock(return_value=shown))
        self.assertEqual([HERE], glance_pool.locations_of(api, None, 'i'))


class OptionsTest(base.NovaTestCase):
    """The options of the core for a server in Ceph."""

    def test_pulled_where_it_is_not_made_inside_ceph(self) -> None:
        self.configure(
            'rbd_user = nova\nrbd_secret_uuid = the-secret\n'
            '[nova_snap]\nlive_method = mirror\nrbd_flatten = never\n'
        )
        settings.register()
        options = settings.driver_options()
        self.assertEqual('mirror', ','.join(options.live_methods))
        options = settings.in_ceph(options, 'images')
        self.assertEqual('mirror,pull', ','.join(options.live_methods))
        self.assertEqual('images', options.rbd.pool)
        self.assertEqual('never', options.rbd.flatten)
        self.assertEqual('nova', options.rbd.user)
        self.assertEqual('the-secret', options.rbd.secret)
