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

"""Images of all disks of a server, asked for by a property or an option.

The server is booted from an image that was of a set itself, so nova-api lets
each record inherit the links to that set.
"""

from collections.abc import Iterator
import contextlib
from typing import Any

from tests.lab import disk as disk_lib
from tests.lab import event_watch
from tests.lab import fault_proxy
from tests.openstack import base
from tests.openstack import mode
from tests.openstack import seed
from tests.openstack import server as server_lib

MODE = mode.Mode(method='pull')
OPTION = {'nova_snap.all_disks': 'true'}

#: What the seed's image has of an older set while the server is booted.
STALE = {
    'nova_snap:set': '5b9c7bd5-1b7a-4f4e-9d0e-52f6a7f2f2a9',
    'nova_snap:device': 'vda',
    'nova_snap:disks': 'vda,vdb',
}

#: The disks besides the root disk, and Nova's names of their files.
FURTHER = {'vdb': 'disk.eph0', 'vdc': 'disk.swap'}

RECORDS = r'/v2/images$'

#: What nova-compute logs of a used up quota.
TOO_LARGE = 'the quota of the project'


class TestAllDisks(base.CloudTestCase):
    """A server with an ephemeral disk, swap and a config drive."""

    MODE = MODE

    def test_sets_and_what_keeps_them_from_being_made(self) -> None:
        with self.seed_of_a_set():
            server = self.make_server(
                flavor=seed.FLAVOR_WITH_DISKS, config_drive=True, wait=False
            )
            server.wait_for_status('ACTIVE')
        self._wait_until_up(server)
        for check in (
            self.check_property,
            self.check_without_property,
            self.check_record_is_refused,
            self.check_killed,
            self.check_option_with_mirror,
            self.check_option,
            self.check_quota,
        ):
            with self.subTest(check.__name__):
                check(server)

    # What is checked ------------------------------------------------------

    def check_property(self, server: server_lib.Server) -> None:
        ticks = server.ticks() - 40
        with self.as_found(server):
            self.client(
                *('server', 'image', 'create', '--wait', '--name', 'all'),
                *('--property', 'nova_snap:disks=all'),
                *('--property', 'team=web', server.id),
            )
            (root,) = self.images_of(server, name='all')
            # The client has waited for the root disk's image only.
            self.assert_set(server, root, ticks)
        for device in FURTHER:
            (image,) = self.images_of(server, name=f'all-{device}')
            self.assertEqual('web', image['team'])
        self.delete_images(server)

    def check_without_property(self, server: server_lib.Server) -> None:
        with self.as_found(server):
            self.take(server)
        (image,) = self.images_of(server)
        self.assertEqual({}, links(image))
        self.delete_images(server)

    def check_record_is_refused(self, server: server_lib.Server) -> None:
        begin, proxy = self.compute.log_size(), self.cloud.image_proxy
        proxy.add('POST', RECORDS, fault_proxy.Answer(413, b'Quota exceeded'))
        with self.as_found(server):
            self.begin_all(server)
            self.wait_until_idle(server)
        proxy.clear()
        self.assertEqual([], self.images_of(server))
        self.assertIn(TOO_LARGE, self.compute.log_since(begin))

    def check_killed(self, server: server_lib.Server) -> None:
        with self.as_found(server):
            self.gates.die('send', 'before')
            self.begin_all(server)
            server.wait_until(lambda: self.compute.daemon.pid is None, 'death')
            self.assertEqual(3, len(self.images_of(server)))
            self.gates.clear()
            self.compute.kill()
            self.compute.start()
            self.wait_until_idle(server)
        self.assertEqual([], self.images_of(server))

    def check_option_with_mirror(self, server: server_lib.Server) -> None:
        self.compute.run(mode.Mode(method='mirror').with_options(OPTION))
        begin = self.compute.log_size()
        watch = event_watch.EventWatch(self.cloud.libvirtd, server)
        with self.as_found(server), watch:
            self.take(server)
        self.assertNotIn('lifecycle: Suspended Paused', watch.events)
        (image,) = self.images_of(server)
        self.assertEqual({}, links(image))
        told = self.compute.log_since(begin)
        self.assertIn('an image is made of its root disk only', told)
        self.delete_images(server)

    def check_option(self, server: server_lib.Server) -> None:
        every = mode.Mode(method='pull', backend='eventlet')
        self.compute.run(every.with_options(OPTION))
        ticks = server.ticks() - 40
        with self.as_found(server):
            root_id = self.take(server)
        (root,) = (
            image for image in self.images_of(server) if image['id'] == root_id
        )
        self.assert_set(server, root, ticks)
        self.delete_images(server)

    def check_quota(self, server: server_lib.Server) -> None:
        glance = self.cloud.glance
        images = self.cloud.connection.image.images()
        used = sum(image.size or 0 for image in images)
        self.addCleanup(glance.limit_storage, 0)
        glance.limit_storage(used + (1 << 20))
        begin = self.compute.log_size()
        with self.as_found(server):
            self.begin_all(server)
            self.wait_until_idle(server)
        self.assertEqual([], self.images_of(server))
        self.assertIn(TOO_LARGE, self.compute.log_since(begin))

    # Helpers --------------------------------------------------------------

    @contextlib.contextmanager
    def seed_of_a_set(self) -> Iterator[None]:
        """Let the seed's image be one of a set for a block."""
        service = self.cloud.connection.image
        image = service.find_image(seed.IMAGE, ignore_missing=False)
        self.change(image.id, [add(key, STALE[key]) for key in STALE])
        try:
            yield
        finally:
            self.change(
                image.id,
                [{'op': 'remove', 'path': f'/{key}'} for key in STALE],
            )

    def change(self, image_id: str, changes: list[dict[str, str]]) -> None:
        """Change an image's properties."""
        answer = self.cloud.connection.image.patch(
            f'/images/{image_id}',
            json=changes,
            headers={
                'Content-Type': 'application/openstack-images-v2.1-json-patch'
            },
        )
        self.assertEqual(200, answer.status_code, answer.text)

    def begin_all(self, server: server_lib.Server) -> None:
        """Ask Nova for images of all disks."""
        self.cloud.connection.compute.create_server_image(
            server.id, 'all', {'nova_snap:disks': 'all'}
        )

    def images_of(
        self, server: server_lib.Server, **filters: str
    ) -> list[dict[str, Any]]:
        """Return the images of a server, as Glance's API has them."""
        answer = self.cloud.connection.image.get(
            '/images', params={'instance_uuid': server.id, **filters}
        )
        found: list[dict[str, Any]] = answer.json()['images']
        return found

    def delete_images(self, server: server_lib.Server) -> None:
        """Delete all images of a server."""
        for image in self.images_of(server):
            self._delete_image(image['id'])

    def assert_set(
        self, server: server_lib.Server, root: dict[str, Any], ticks: int
    ) -> None:
        """Check the images of a set: their records and their data."""
        images = {
            image['nova_snap:device']: image
            for image in self.images_of(server)
        }
        self.assertEqual(['vda', *FURTHER], sorted(images))
        self.assertEqual(root['id'], images['vda']['id'])
        for device, image in images.items():
            self.assertEqual('active', image['status'])
            self.assertEqual(root['owner'], image['owner'])
            self.assertEqual('private', image['visibility'])
            self.assertEqual(
                {
                    'nova_snap:set': root['id'],
                    'nova_snap:device': device,
                    'nova_snap:disks': 'vda,vdb,vdc',
                },
                links(image),
            )
        self.assertEqual(
            self.cloud.connection.current_project_id, root['owner']
        )
        self.assert_image_right(root['id'], ticks)
        for device, name in FURTHER.items():
            image = images[device]
            self.assertEqual(f'{root["name"]}-{device}', image['name'])
            disk = server.folder / name
            self.assertEqual(
                '',
                disk_lib.differences(
                    self.image_file(image['id']),
                    image['disk_format'],
                    disk,
                    disk_lib.probed_format(disk),
                ),
            )


def add(key: str, value: str) -> dict[str, str]:
    """Return the change that adds a property."""
    return {'op': 'add', 'path': f'/{key}', 'value': value}


def links(image: dict[str, Any]) -> dict[str, str]:
    """Return the properties that link an image with others of a set."""
    return {key: image[key] for key in image if key.startswith('nova_snap:')}
