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

"""Servers in every state, and what may happen to one in the middle.

Each of the two methods and each kind of threads is tried; all four pairs of
them are in ``test_live.py``, when it runs exhaustively.
"""

import openstack

from tests.lab import exhaustive
from tests.lab import fault_proxy
from tests.openstack import base
from tests.openstack import mode
from tests.openstack import server as server_lib

NAME = 'Schnappschuß 快照 ☃'

BACKUPS = ('monday', 'tuesday', 'wednesday')


class StateTests:
    """What holds for both methods.

    :cvar MIDDLE: the step in the middle of which a server is deleted.
    """

    MIDDLE = 'upload'

    def check_state(
        self: base.CloudTestCase, there: str, status: str, back: str
    ) -> None:
        server = self.shared_server()
        server.act(there, status)
        ticks = server.ticks()
        with self.as_found(server):
            image_id = self.take(server)
        self.assertEqual(status, server.status())
        self.assert_image_right(image_id, ticks)
        server.act(back, 'ACTIVE')
        server.wait_for_ticks(5, 180)

    def test_paused(self) -> None:
        self.check_state('pause', 'PAUSED', 'unpause')

    def test_stopped(self) -> None:
        self.check_state('stop', 'SHUTOFF', 'start')

    def test_saving_image_deleted(self: base.CloudTestCase) -> None:
        server = self.shared_server()
        proxy = self.cloud.image_proxy
        self.addCleanup(proxy.clear)
        with self.as_found(server):
            with self.gates.held('send') as wait:
                image_id = self.begin(server)
                wait()
                proxy.add(
                    'PUT',
                    f'/{image_id}/file$',
                    fault_proxy.Call(
                        lambda _: self.delete_in_progress(server, image_id),
                        1 << 20,
                    ),
                )
            self.wait_until_idle(server)
            self.assertEqual(0, server.show().progress)
            self.assertEqual('gone', self.image_status(image_id))
            self.assertEqual('ACTIVE', server.status())
        self.assertEqual(1, proxy.count('PUT', image_id))

    def delete_in_progress(
        self: base.CloudTestCase, server: server_lib.Server, image_id: str
    ) -> None:
        """Delete an image when its server shows how far it is."""
        server.wait_until(
            lambda: server.show().progress > 0, 'progress of the image'
        )
        self.cloud.connection.image.delete_image(image_id)

    def test_server_deleted(self: base.CloudTestCase) -> None:
        server = self.make_server()
        with self.gates.held(self.MIDDLE) as wait:
            image_id = self.begin(server)
            wait()
            self.cloud.connection.compute.delete_server(server.id)
            server.wait_until(lambda: server.state() != 'running', 'end')
        server.wait_for_status('DELETED')
        self.wait_for_image(image_id, 'gone')
        server.wait_until(lambda: not server.exists(), 'undefined domain')
        server.wait_until(lambda: not server.folder.exists(), 'no folder')
        # Of a server that is gone, Nova does not say when its image ends.
        server.wait_until(lambda: not self.files_left(), 'an empty journal')
        self.assert_nothing_left(server)


class AboveTheDriverTests(StateTests):
    """What the method makes no difference to: Nova's part of it."""

    def test_suspended(self) -> None:
        self.check_state('suspend', 'SUSPENDED', 'resume')

    def test_multibyte_name(self: base.CloudTestCase) -> None:
        server = self.shared_server()
        with self.as_found(server):
            image_id = self.take(server, NAME)
        self.assertEqual(NAME, self.image(image_id).name)

    def test_second_at_once_is_a_conflict(self: base.CloudTestCase) -> None:
        server = self.shared_server()
        with self.as_found(server):
            with self.gates.held('upload') as wait:
                image_id = self.begin(server)
                wait()
                self.assertRaises(
                    openstack.exceptions.ConflictException,
                    self.begin,
                    server,
                )
            self.wait_for_image(image_id)

    def test_backups_rotate(self: base.CloudTestCase) -> None:
        server = self.shared_server()
        images = self.cloud.connection.image
        with self.as_found(server):
            for name in BACKUPS:
                self.cloud.connection.compute.backup_server(
                    server.id, name, 'daily', 2
                )
                self.wait_until_idle(server)
        kept = list(images.images(instance_uuid=server.id))
        for image in kept:
            self.addCleanup(images.delete_image, image.id)
        self.assertEqual(
            [('tuesday', 'active'), ('wednesday', 'active')],
            sorted((image.name, image.status) for image in kept),
        )

    def test_shelve_and_unshelve(self: base.CloudTestCase) -> None:
        server = self.shared_server()
        server.wait_for_ticks(40)
        ticks = server.ticks()
        server.act('shelve', 'SHELVED_OFFLOADED')
        self.assertFalse(server.exists())
        server.act('unshelve', 'ACTIVE')
        server.wait_for_ticks(5, 240)
        self.assertGreaterEqual(server.ticks(), ticks)
        self.assert_nothing_left(server)


#: One method has them all.
PULL_TESTS = exhaustive.choose(
    (StateTests, AboveTheDriverTests), (StateTests,)
)


class TestMirrorThreading(AboveTheDriverTests, base.CloudTestCase):
    """blockRebase, native threads."""

    MODE = mode.Mode(method='mirror', backend='threading')
    MIDDLE = 'poll'

    def test_rescued_is_a_conflict_as_before(self) -> None:
        # Nova's API takes images of active, stopped, paused and suspended
        # servers only.
        server = self.shared_server()
        server.act('rescue', 'RESCUE')
        self.assertRaises(
            openstack.exceptions.ConflictException, self.begin, server
        )
        server.act('unrescue', 'ACTIVE')
        server.wait_for_ticks(5, 240)
        with self.as_found(server):
            self.take(server)


class TestPullEventlet(PULL_TESTS[-1], base.CloudTestCase):
    """A point-in-time export, under eventlet."""

    # Compressed, the disk would be sent before its image could be deleted.
    MODE = mode.Mode(method='pull', backend='eventlet').with_options(
        {'nova_snap.compression': 'off'}
    )
