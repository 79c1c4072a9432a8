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

"""Which images are a set, and the deletion of all of them."""

import dataclasses
import io
from typing import Any

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap.compute import image_set
from nova_snap.compute import image_set_deletion
from nova_snap.compute import image_set_members
from nova_snap.image import api as image_api
from tests.unit.compute import base
from tests.unit.compute import volumes as volumes_lib

OWNER = 'a5d9f7c3'
STRANGER = 'b6e0a8d4'


class MembersTestCase(base.ManagerTestCase):
    """A set of the image service, whose images belong to a project."""

    def setUp(self) -> None:
        super().setUp()
        self.driver.further = ('vdb', 'vdc')
        self.root, self.vdb, self.vdc = (
            self.change(image, owner=OWNER) for image in self.snapshots()
        )

    def change(
        self,
        image: image_api.Image,
        properties: dict[str, str] | None = None,
        **fields: Any,
    ) -> image_api.Image:
        """Change what a client can't change."""
        changed = dataclasses.replace(
            image,
            **fields,
            properties={**image.properties, **(properties or {})},
        )
        self.images._write(changed)
        return changed

    def copy(self, image: image_api.Image, **fields: Any) -> image_api.Image:
        """Make an active image with the properties of another one."""
        image_id = fields.pop('id', base.BASE_ID)
        self.images.create(
            image_api.Image(id=image_id, name=image.name, status='queued')
        )
        self.images.upload(
            image_id, io.BytesIO(b''), None, progress_lib.Progress()
        )
        return self.change(
            self.images.get(image_id),
            dict(image.properties),
            **{'owner': OWNER, **fields},
        )

    def found(
        self, image: image_api.Image
    ) -> image_set_members.Members | None:
        """Return the set of an image."""
        find = image_set_members.in_service(self.images)
        return image_set_members.of_image(find, self.images.get(image.id))

    def labels(self) -> dict[str, str]:
        """Return what a list shows, by the ID of the image."""
        return {
            image.id: label
            for image, label in image_set_members.labelled(self.images.list())
        }

    def complete(self) -> dict[str, str]:
        """Return the labels of the whole set."""
        ids = (self.root.id, self.vdb.id, self.vdc.id)
        return dict.fromkeys(ids, self.root.id)

    def incomplete(self, *images: image_api.Image) -> dict[str, str]:
        """Return the labels of images of an incomplete set."""
        return {image.id: 'incomplete' for image in images}


class MembersTest(MembersTestCase):
    """Which images are a set."""

    def test_complete(self) -> None:
        for image in (self.root, self.vdb, self.vdc):
            members = self.found(image)
            assert members is not None
            self.assertTrue(members.is_complete)
            self.assertEqual(self.root.id, members.root.id)
            self.assertEqual(
                {
                    'vda': self.root.id,
                    'vdb': self.vdb.id,
                    'vdc': self.vdc.id,
                },
                {device: i.id for device, i in members.existing.items()},
            )
        self.assertEqual(self.complete(), self.labels())

    def test_one_is_missing(self) -> None:
        self.images.delete(self.vdb.id)
        members = self.found(self.vdc)
        assert members is not None
        self.assertFalse(members.is_complete)
        self.assertIsNone(members.by_device['vdb'])
        self.assertEqual(self.incomplete(self.root, self.vdc), self.labels())

    def test_one_is_not_active(self) -> None:
        for image in (self.vdb, self.root):
            self.change(image, status='queued')
            members = self.found(self.vdc)
            assert members is not None
            self.assertFalse(members.is_complete)
            self.assertEqual(
                self.incomplete(self.root, self.vdb, self.vdc), self.labels()
            )
            self.change(image)

    def test_root_is_missing(self) -> None:
        self.images.delete(self.root.id)
        self.assertIsNone(self.found(self.vdb))
        self.assertEqual({self.vdb.id: '', self.vdc.id: ''}, self.labels())

    def test_image_of_a_stranger(self) -> None:
        """Everybody can choose the ID and the properties of his image."""
        self.images.delete(self.vdb.id)
        forged = self.copy(self.vdb, id=self.vdb.id, owner=STRANGER)
        self.assertIsNone(self.found(forged))
        members = self.found(self.root)
        assert members is not None
        self.assertIsNone(members.by_device['vdb'])
        self.assertEqual('', self.labels()[forged.id])
        self.assertEqual('incomplete', self.labels()[self.root.id])

    def test_copy_of_an_image(self) -> None:
        """It has the properties, and may have other data."""
        for image in (self.root, self.vdb):
            copy = self.copy(image)
            self.assertIsNone(self.found(copy))
            self.assertEqual({**self.complete(), copy.id: ''}, self.labels())
            self.images.delete(copy.id)

    def test_copy_takes_no_place(self) -> None:
        self.images.delete(self.vdb.id)
        copy = self.copy(self.vdb)
        self.assertEqual(
            {**self.incomplete(self.root, self.vdc), copy.id: ''},
            self.labels(),
        )

    def test_image_that_names_another_set(self) -> None:
        for properties in (
            {image_set.SET: base.BASE_ID},
            {image_set.DEVICE: 'vdc'},
            {image_set.DISKS: 'vda,vdb'},
        ):
            changed = self.change(self.vdb, properties)
            self.assertIsNone(self.found(changed))
            self.assertEqual('incomplete', self.labels()[self.root.id])

    def test_root_that_is_none(self) -> None:
        for properties in (
            {image_set.SET: base.BASE_ID},
            {image_set.SET: '../x'},
            {image_set.DEVICE: 'vdb'},
            {image_set.DISKS: ''},
            {image_set.DISKS: 'vda'},
            {image_set.DISKS: 'vda,vdb vdc=$(reboot)'},
            {image_set.DISKS: 'vda,vdb\nvdc'},
            {
                image_set.DISKS: ','.join(
                    ['vda', *(f'vd{n}' for n in range(999))]
                )
            },
        ):
            self.change(self.root, properties)
            self.assertIsNone(self.found(self.root), properties)
            self.assertIsNone(self.found(self.vdb), properties)

    def test_image_of_no_set(self) -> None:
        self.driver.further = ()
        image = self.snapshot()
        self.assertIsNone(self.found(image))
        self.assertEqual({**self.complete(), image.id: ''}, self.labels())


class DeletionTest(MembersTestCase):
    """Deletion of all images of a set."""

    def delete(self, *arguments: Any) -> list[tuple[str, str, str]]:
        """Delete the set; return what is shown."""
        members = self.found(self.root)
        assert members is not None
        outcomes = list(
            image_set_deletion.delete(self.images, members, *arguments)
        )
        self.any_stays = any(outcome.stays for outcome in outcomes)
        return [(found.kind, found.id, found.text) for found in outcomes]

    def left(self) -> set[str]:
        """Return the IDs of all images."""
        return {image.id for image in self.images.list()}

    def test_root_is_last(self) -> None:
        self.assertEqual(
            [
                ('image vdb', self.vdb.id, 'deleted'),
                ('image vdc', self.vdc.id, 'deleted'),
                ('image vda', self.root.id, 'deleted'),
            ],
            self.delete(),
        )
        self.assertFalse(self.any_stays)
        self.assertEqual(set(), self.left())

    def test_interrupted_anywhere(self) -> None:
        """What is left is no set, and can be deleted by its root."""
        delete = self.images.delete
        for number in range(3):
            calls: list[str] = []

            def die(
                image_id: str, calls: list[str] = calls, number: int = number
            ) -> None:
                if len(calls) == number:
                    raise KeyboardInterrupt
                calls.append(image_id)
                delete(image_id)

            self.images.delete = die  # type: ignore[method-assign]
            self.assertRaises(KeyboardInterrupt, self.delete)
            self.images.delete = delete  # type: ignore[method-assign]
            shown = set(self.labels().values())
            self.assertEqual(
                {'incomplete'} if number else {self.root.id}, shown
            )
            self.delete()
            self.assertEqual(set(), self.left())
            self.progress = progress_lib.Progress()
            self.root, self.vdb, self.vdc = (
                self.change(i, owner=OWNER) for i in self.snapshots()
            )

    def test_one_stays(self) -> None:
        delete = self.images.delete

        def refuse(image_id: str) -> None:
            if image_id == self.vdb.id:
                raise exception.ImageConflict(
                    image_id=image_id, reason='in use.'
                )
            delete(image_id)

        self.images.delete = refuse  # type: ignore[method-assign]
        (_kind, _id, vdb), (_kind, _id, vdc), (_kind, _id, vda) = self.delete()
        self.assertIn('in use', vdb)
        self.assertEqual('deleted', vdc)
        self.assertIn('stays until', vda)
        self.assertTrue(self.any_stays)
        self.assertEqual({self.root.id, self.vdb.id}, self.left())

    def test_one_is_protected(self) -> None:
        for image in (self.root, self.vdc):
            self.change(image, protected=True)
            error = self.assertRaises(exception.Conflict, self.delete)
            self.assertIn(image.id, str(error))
            self.assertEqual(3, len(self.left()))
            self.change(image)

    def test_image_of_a_stranger_stays(self) -> None:
        self.images.delete(self.vdb.id)
        forged = self.copy(self.vdb, id=self.vdb.id, owner=STRANGER)
        copy = self.copy(self.vdc)
        self.assertEqual(2, len(self.delete()))
        self.assertEqual({forged.id, copy.id}, self.left())

    def test_volume_snapshots_of_the_root(self) -> None:
        volumes = volumes_lib.MemoryVolumes()
        snapshot_id = 'c51f0a8e-6a0e-4c19-8d1c-5f3f0a7be0a1'
        self.change(
            self.root,
            {
                'block_device_mapping': (
                    f'[{{"source_type": "snapshot", "snapshot_id": '
                    f'"{snapshot_id}"}}]'
                )
            },
        )
        *_images, root, snapshot = self.delete(volumes)
        self.assertEqual(('image vda', self.root.id, 'deleted'), root)
        self.assertEqual(('snapshot', snapshot_id), snapshot[:2])
        self.assertIn('not found', snapshot[2])
