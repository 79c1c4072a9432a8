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

"""Images of several disks in a real Glance."""

import dataclasses
import pathlib
import shutil
import tempfile

import glanceclient

from nova_snap import exception
from nova_snap import journal
from nova_snap import locks
from nova_snap import progress
from nova_snap.compute import image_set
from nova_snap.compute import image_set_deletion
from nova_snap.compute import image_set_members
from nova_snap.compute import manager as manager_lib
from nova_snap.image import api
from tests.functional.image import base
from tests.lab import fault_proxy
from tests.unit.compute import base as memory

DEVICES = ('vda', 'vdb', 'vdc')

#: Projects.
OWNER = 'a5d9f7c3'
STRANGER = 'b6e0a8d4'


class SetTestCase(base.GlanceTestCase):
    """An instance with three disks, which are in the memory of the test."""

    def setUp(self) -> None:
        super().setUp()
        state = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, state)
        self.driver = memory.MemoryDriver()
        self.driver.further = DEVICES[1:]
        self.journal = journal.Journal(state / 'journal')
        self.manager = manager_lib.SnapshotManager(
            self.driver, self.journal, locks.Locks(state / 'locks', 0, 0)
        )
        self.addCleanup(self.delete_all)

    def take(self) -> tuple[api.Image, ...]:
        """Take an image of each disk."""
        return self.manager.snapshot_instance(
            memory.INSTANCE,
            'backup',
            {},
            self.service,
            progress.Progress('web'),
        )

    def all_images(self) -> list[api.Image]:
        """Return the images of the instance."""
        return list(self.direct().list(instance_uuid=memory.INSTANCE.uuid))

    def delete_all(self) -> None:
        """Delete what the test has made."""
        for image in self.all_images():
            self.raw().images.update(image.id, protected=False)
            self.direct().delete(image.id)

    def raw(self) -> glanceclient.Client:
        """Return a client that changes what the adapter does not change."""
        return glanceclient.Client('2', endpoint=self.glance.url, token='x')

    def members(self, image: api.Image) -> image_set_members.Members:
        """Return the set of an image."""
        find = image_set_members.in_service(self.service)
        found = image_set_members.of_image(find, self.service.get(image.id))
        assert found is not None
        return found

    def delete_set(self, image: api.Image) -> list[str]:
        """Delete all images of a set; return what became of each."""
        members = self.members(image)
        outcomes = image_set_deletion.delete(self.service, members)
        return [f'{outcome.kind} {outcome.text}' for outcome in outcomes]


class WholeSetTest(SetTestCase):
    """A set that becomes active."""

    def test_properties_and_their_names(self) -> None:
        """Glance takes a colon in a name, and searches by it."""
        root, *further = self.take()
        for device, image in zip(DEVICES, (root, *further), strict=True):
            self.assertEqual(
                {
                    'nova_snap:set': root.id,
                    'nova_snap:device': device,
                    'nova_snap:disks': 'vda,vdb,vdc',
                },
                {
                    key: value
                    for key, value in image.properties.items()
                    if key.startswith('nova_snap:')
                },
            )
            self.assertEqual('active', image.status)
            self.assertEqual(
                memory.FURTHER.get(device, memory.DATA), self.stored(image.id)
            )
            found = self.service.list(
                **{'nova_snap:set': root.id, 'nova_snap:device': device}
            )
            self.assertEqual([image.id], [one.id for one in found])
        found = self.service.list(**{image_set.SET: root.id})
        self.assertEqual(3, len(list(found)))

    def test_list_and_deletion(self) -> None:
        root, *further = self.take()
        self.assertTrue(self.members(further[0]).is_complete)
        shown = dict.fromkeys((i.id for i in (root, *further)), root.id)
        self.assertEqual(
            shown,
            {
                image.id: label
                for image, label in image_set_members.labelled(
                    self.service.list()
                )
                if label
            },
        )
        self.assertEqual(
            ['image vdb deleted', 'image vdc deleted', 'image vda deleted'],
            self.delete_set(further[1]),
        )
        self.assertEqual([], self.all_images())

    def test_protected_image_keeps_the_set(self) -> None:
        root, *_further = self.take()
        self.raw().images.update(root.id, protected=True)
        error = self.assertRaises(exception.Conflict, self.delete_set, root)
        self.assertIn(root.id, str(error))
        self.assertEqual(3, len(self.all_images()))

    def test_image_of_another_project(self) -> None:
        """It may have the ID and the properties of one of the set."""
        root_id = base.record().id
        forged = image_set.member_id(root_id, 'vdb')
        for image_id, device, owner in (
            (root_id, 'vda', OWNER),
            (forged, 'vdb', STRANGER),
            (image_set.member_id(root_id, 'vdc'), 'vdc', OWNER),
        ):
            properties = {
                'instance_uuid': memory.INSTANCE.uuid,
                image_set.SET: root_id,
                image_set.DEVICE: device,
                image_set.DISKS: 'vda,vdb,vdc',
            }
            self.service.create(
                dataclasses.replace(
                    base.record(id=image_id, properties=properties),
                    owner=owner,
                )
            )
            self.upload(image_id, b'data')
        root = self.service.get(root_id)
        self.assertFalse(self.members(root).is_complete)
        self.assertEqual(
            ['image vdc deleted', 'image vda deleted'], self.delete_set(root)
        )
        self.assertEqual([forged], [image.id for image in self.all_images()])


class FailedSetTest(SetTestCase):
    """A set of which one request fails."""

    def assert_none(self, category: type[exception.NovaSnapError]) -> None:
        """Check that a set fails, and that nothing of it is left."""
        self.assertRaises(category, self.take)
        self.assertEqual([], self.all_images())
        self.assertEqual([], list(self.journal.entries()))

    def test_quota_of_records(self) -> None:
        refuse = fault_proxy.Call(lambda request: None)
        self.proxy.add('POST', '/images$', refuse)
        self.proxy.add('POST', '/images$', fault_proxy.Answer(413))
        self.assert_none(exception.ImageTooLarge)

    def test_upload_is_refused(self) -> None:
        for number in range(3):
            self.proxy.clear()
            let = fault_proxy.Call(lambda request: None)
            self.fail_upload(let, number)
            self.fail_upload(fault_proxy.Answer(413))
            self.assert_none(exception.ImageTooLarge)

    def test_image_that_is_not_what_was_sent(self) -> None:
        self.fail_upload(fault_proxy.Corrupt(100))
        self.assert_none(exception.ImageCorrupt)

    def test_upload_that_is_cut_is_sent_again(self) -> None:
        """Others go on meanwhile, and the root disk's waits for it."""
        self.fail_upload(fault_proxy.CutRequest(100))
        root, *_further = self.take()
        self.assertTrue(self.members(root).is_complete)
