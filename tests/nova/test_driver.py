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

"""The driver in a real Nova."""

import os
import sys
from unittest import mock
import uuid

from nova import exception as nova_exception
from nova.virt.libvirt import driver as nova_driver

from nova_snap import locks
from nova_snap.nova import driver as driver_lib
from nova_snap.nova import settings
from tests.nova import base


class LoadingTest(base.NovaTestCase):
    """As nova-compute loads it."""

    def test_loads(self) -> None:
        driver = self.driver()
        self.assertIsInstance(driver, nova_driver.LibvirtDriver)
        self.assertEqual('nova_snap.nova.driver', type(driver).__module__)

    def test_eventlet_is_not_in_force(self) -> None:
        self.driver()
        eventlet = sys.modules.get('eventlet.patcher')
        self.assertFalse(eventlet and eventlet.is_monkey_patched('thread'))

    def test_everything_but_snapshots_is_of_nova(self) -> None:
        own = set(vars(type(self.driver())))
        public = {name for name in own if not name.startswith('_')}
        self.assertEqual({'init_host', 'snapshot'}, public)


class LeftToNovaTest(base.NovaTestCase):
    """A snapshot that Nova's own driver takes."""

    def test_locked_by_another_program(self) -> None:
        server = mock.Mock(uuid=str(uuid.uuid4()), system_metadata={})
        disk = mock.patch.object(
            driver_lib.LibvirtDriver, '_root_disk', autospec=True
        )
        with (
            disk,
            mock.patch.object(
                driver_lib.settings, 'is_left_to_nova', return_value=True
            ),
            mock.patch.object(
                nova_driver.LibvirtDriver, 'snapshot', autospec=True
            ) as taken,
        ):
            driver = self.driver()
            driver._snapshots = driver._image_api = mock.MagicMock()
            with locks.host_wide(server.uuid):
                error = self.assertRaises(
                    nova_exception.InternalError,
                    driver.snapshot,
                    *(None, server, 'image', None),
                )
            self.assertIn(f'process {os.getpid()}', str(error))
            taken.assert_not_called()
            driver.snapshot(None, server, 'image', None)
            taken.assert_called_once()


class SettingsTest(base.NovaTestCase):
    """What is read of nova.conf."""

    def options(self, text: str):  # type: ignore[no-untyped-def]
        """Return the core's options for this configuration."""
        self.configure(text)
        settings.register()
        return settings.driver_options()

    def test_defaults(self) -> None:
        options = self.options('')
        state = base.CONF.state_path
        self.assertEqual(
            f'{state}/instances/snapshots', str(options.snapshots_directory)
        )
        self.assertEqual(f'{state}/nova_snap', str(settings.state_path()))
        self.assertEqual('pull,mirror', ','.join(options.live_methods))
        self.assertIsNone(options.image_format)
        self.assertFalse(options.live_disabled)
        self.assertEqual('qemu:///system', settings.connection_uri())

    def test_options_of_nova_and_of_ours(self) -> None:
        options = self.options(
            'snapshots_directory = /srv/snapshots\n'
            'snapshot_image_format = raw\n'
            'connection_uri = qemu:///other\n'
            '[workarounds]\ndisable_libvirt_livesnapshot = true\n'
            '[nova_snap]\nlive_method = auto\nquiesce_timeout = 7\n'
            'state_path = /srv/state\n'
        )
        self.assertEqual('/srv/snapshots', str(options.snapshots_directory))
        self.assertEqual('raw', options.image_format)
        self.assertTrue(options.live_disabled)
        self.assertEqual('pull,mirror', ','.join(options.live_methods))
        self.assertEqual(7, options.quiesce_timeout)
        self.assertEqual('/srv/state', str(settings.state_path()))
        self.assertEqual('qemu:///other', settings.connection_uri())
