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

"""Images of all disks: the request, the records, and what is left to Nova.

The records are made as nova-api makes them, by Nova's own functions.
"""

from collections.abc import Mapping
from typing import Any
from unittest import mock

from nova import context as nova_context
from nova import exception as nova_exception
from nova import utils as nova_utils
from nova.api.openstack.compute.schemas import servers as schema
from nova.api.validation import validators
from nova.compute import task_states
from nova.compute import utils as compute_utils
from nova.virt.libvirt import driver as nova_driver

from nova_snap import exception
from nova_snap.image import api as image_api
from nova_snap.image import glance
from nova_snap.nova import disk_request
from nova_snap.nova import driver as driver_lib
from nova_snap.nova import images
from nova_snap.nova import settings
from nova_snap.objects import instance as instance_lib
from tests.nova import base

ALL = {'nova_snap:disks': 'all'}
STALE = {
    'nova_snap:set': '5b9c7bd5-1b7a-4f4e-9d0e-52f6a7f2f2a9',
    'nova_snap:device': 'vda',
    'nova_snap:disks': 'vda,vdb',
}
OPTION = '[nova_snap]\nall_disks = true\n'


class RequestTestCase(base.NovaTestCase):
    """With a server that was booted from an image of a set."""

    def setUp(self) -> None:
        super().setUp()
        settings.register()

    def server(
        self,
        inherited: Mapping[str, str] = STALE,
        task_state: str = task_states.IMAGE_SNAPSHOT,
    ) -> Any:
        """Return a server, booted from an image with these properties."""
        image = {'properties': {'os_distro': 'busybox', **inherited}}
        metadata = nova_utils.get_system_metadata_from_image(image)
        # Nova keeps what is not the image's beside that.
        metadata['owner_project_name'] = 'lab'
        return self.instance(system_metadata=metadata, task_state=task_state)

    @staticmethod
    def record(server: Any, requested: Mapping[str, str]) -> dict[str, Any]:
        """Return the properties of nova-api's record for a request."""
        context = nova_context.RequestContext('u', 'p')
        made: dict[str, Any] = (
            compute_utils.initialize_instance_snapshot_metadata(
                context, server, 'name', dict(requested)
            )
        )
        properties: dict[str, Any] = made['properties']
        return properties


class DiskRequestTest(RequestTestCase):
    """What a request, an option and the server's own image say."""

    def wanted(
        self,
        requested: Mapping[str, str] | None = None,
        task_state: str = task_states.IMAGE_SNAPSHOT,
        inherited: Mapping[str, str] = STALE,
    ) -> disk_request.DiskRequest:
        """Return what is read of a request."""
        server = self.server(inherited, task_state)
        record = self.record(server, requested or {})
        return disk_request.DiskRequest.of(server, record)

    def test_nova_accepts_the_property(self) -> None:
        body = {'createImage': {'name': 'x', 'metadata': ALL}}
        validators._SchemaValidator(schema.create_image).validate(body)

    def test_root_disk(self) -> None:
        wanted = self.wanted()
        self.assertEqual(instance_lib.DiskChoice(), wanted.choice)
        self.assertFalse(wanted.is_explicit)

    def test_property(self) -> None:
        wanted = self.wanted({'team': 'web', **ALL})
        self.assertTrue(wanted.is_explicit)
        self.assertTrue(wanted.choice.is_every)
        self.assertTrue(wanted.choice.without_volumes)
        self.assertFalse(wanted.choice.if_live)
        self.assertEqual({'team': 'web'}, wanted.metadata)

    def test_properties_of_glance_are_no_part_of_a_request(self) -> None:
        record = {'os_glance_stage_host': 'x', 'stores': 'file', 'a': 'b'}
        wanted = disk_request.DiskRequest.of(self.server(), record)
        self.assertEqual({'a': 'b'}, wanted.metadata)

    def test_option(self) -> None:
        self.configure(OPTION)
        wanted = self.wanted()
        self.assertFalse(wanted.is_explicit)
        self.assertTrue(wanted.choice.is_every)
        self.assertTrue(wanted.choice.if_live)
        self.assertFalse(self.wanted(ALL).choice.if_live)

    def test_option_and_a_name_without_room_for_that_of_a_disk(self) -> None:
        """A name that Nova accepts must not fail for an option."""
        self.configure(OPTION)
        server = self.server()
        for requested, is_every in (({}, False), (ALL, True)):
            record = self.record(server, requested)
            wanted = disk_request.DiskRequest.of(server, record, 'x' * 252)
            self.assertEqual(is_every, wanted.choice.is_every)

    def test_value_of_the_image_is_no_request(self) -> None:
        self.assertFalse(self.wanted(inherited=ALL).choice.is_every)

    def test_backups_and_shelving_are_of_the_root_disk(self) -> None:
        self.configure(OPTION)
        for state in (
            task_states.IMAGE_BACKUP,
            task_states.SHELVING,
            task_states.RESIZE_PREP,
        ):
            self.assertFalse(self.wanted(task_state=state).choice.is_every)

    def test_property_of_a_backup_is_an_error(self) -> None:
        error = self.assertRaises(
            exception.InvalidMetadata,
            *(self.wanted, ALL, task_states.IMAGE_BACKUP),
        )
        self.assertIn('rotation', str(error))

    def test_other_values_are_errors(self) -> None:
        for requested in (
            {'nova_snap:disks': 'vdb'},
            {'nova_snap:set': 'mine'},
            {**ALL, 'nova_snap:device': 'vdz'},
        ):
            error = self.assertRaises(
                exception.InvalidMetadata, self.wanted, requested
            )
            self.assertIn('nova_snap:disks=all', str(error))


class SnapshotTest(RequestTestCase):
    """The entry of nova-compute, with what it calls stood in for."""

    def setUp(self) -> None:
        super().setUp()
        self.taken = mock.Mock()

    def snapshot(
        self,
        requested: Mapping[str, str],
        conf: str = '',
        inherited: Mapping[str, str] = STALE,
    ) -> Any:
        """Ask for an image; return the mock of Nova's own method."""
        self.configure(conf)
        driver = self.driver()
        server = self.server(inherited)
        record = {'name': 'n', 'properties': self.record(server, requested)}
        driver._snapshots = self.taken
        driver._image_api = mock.Mock(get=lambda *_: record)
        disk = mock.Mock(is_rbd=True, image_format='raw')
        with (
            mock.patch.object(
                driver_lib.LibvirtDriver, '_root_disk', return_value=disk
            ),
            mock.patch.object(nova_driver.LibvirtDriver, 'snapshot') as nova,
        ):
            driver.snapshot(None, server, 'image', None)
        return nova

    def test_taken(self) -> None:
        self.snapshot(ALL).assert_not_called()
        wanted = self.taken.take.call_args.args[5]
        self.assertTrue(wanted.is_explicit)

    def test_left_to_nova_without_old_links(self) -> None:
        self.snapshot({}, f'virt_type = lxc\n{OPTION}').assert_called_once()
        self.taken.unlink.assert_called_once()
        self.taken.take.assert_not_called()

    def test_containers_have_no_sets(self) -> None:
        error = self.assertRaises(
            nova_exception.InternalError,
            *(self.snapshot, ALL, '[libvirt]\nvirt_type = lxc\n'),
        )
        self.assertIn('virt_type', str(error))
        self.snapshot({}, '[libvirt]\nvirt_type = lxc\n')

    def test_invalid_request_is_an_error_of_nova(self) -> None:
        self.assertRaises(
            nova_exception.InternalError,
            *(self.snapshot, {'nova_snap:set': 'mine'}),
        )
        self.taken.take.assert_not_called()


class RecordTest(base.NovaTestCase):
    """The records that nova-compute makes itself."""

    RECORD = image_api.Image(id='further', name='n-vdb', status='queued')

    def created(self, shared_with: str | None) -> list[Any]:
        """Make a record; return what Glance is asked for."""
        calls: list[Any] = []

        def create(_self: Any, record: image_api.Image) -> image_api.Image:
            calls.append(record.visibility)
            return record

        self.patch(glance.GlanceImageService, 'create', create)
        self.patch(
            glance.GlanceImageService,
            'share',
            lambda _self, *arguments: calls.append(arguments),
        )
        service = images.UserImages.__new__(images.UserImages)
        service._shared_with = shared_with
        service.create(self.RECORD)
        return calls

    def test_of_the_owner_of_the_server(self) -> None:
        self.assertEqual(['private'], self.created(None))

    def test_of_an_administrator(self) -> None:
        self.assertEqual(
            ['shared', ('further', 'theirs')], self.created('theirs')
        )

    def test_record_is_completed_before_its_location_is_added(self) -> None:
        """Glance wants to know the format of what it finds there."""
        calls = mock.Mock()
        self.patch(glance.GlanceImageService, 'set_location', calls.add)
        service = images.UserImages.__new__(images.UserImages)
        service._context = None
        service._image_id = 'root'
        service._metadata = {'disk_format': 'raw'}
        service._nova_api = calls
        service.set_location('root', 'rbd://a/b/c/d')
        self.assertEqual(
            [
                mock.call.update(
                    *(None, 'root', {'disk_format': 'raw'}), purge_props=False
                ),
                mock.call.add('root', 'rbd://a/b/c/d'),
            ],
            calls.mock_calls,
        )

    def test_image_that_a_user_does_not_see_may_exist(self) -> None:
        """So its data in Ceph has to stay."""
        service = images.UserImages.__new__(images.UserImages)
        for roles, owner, expected in (
            (['member'], 'theirs', True),
            (['member'], None, True),
            (['member'], 'p', False),
            (['admin'], 'theirs', False),
        ):
            service._context = nova_context.RequestContext(
                'u', 'p', roles=roles
            )
            self.assertIs(expected, service.may_hide(owner))

    def test_only_the_first_is_completed_as_nova_does(self) -> None:
        self.patch(
            glance.GlanceImageService, '_before_upload', lambda *_: self.RECORD
        )
        service = images.UserImages.__new__(images.UserImages)
        service._context = None
        service._image_id = 'root'
        service._metadata = {'name': 'n'}
        service._nova_api = mock.Mock()
        service._nova_api.update.return_value = {
            'id': 'root',
            'name': 'n',
            'status': 'saving',
            'properties': {'os_hidden': False, 'team': 'web', 'empty': None},
        }
        self.assertIs(self.RECORD, service._before_upload('further'))
        completed = service._before_upload('root')
        self.assertEqual('saving', completed.status)
        self.assertEqual({'team': 'web'}, completed.properties)
        service._nova_api.update.assert_called_once_with(
            None, 'root', {'name': 'n'}, purge_props=False
        )
