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


"""Chains of real files, and what their headers may name."""

import dataclasses
import os
import pathlib
import shutil

import fixtures

from nova_snap import exception
from nova_snap.virt.storage import backing_chain
from nova_snap.virt.storage import disk_source as storage
from tests.unit.virt.storage import base

READER = backing_chain.Reader()


class ChainTest(base.DiskTestCase):
    """Chains of guests that are shut off."""

    def test_is_read_from_headers_that_name_formats(self) -> None:
        source = self.overlay(self.overlay(self.raw(), 'middle'))
        found = READER.completed(self.unknown(source))
        self.assertTrue(found.is_chain_known)
        self.assert_same_content(source, found)
        assert found.backing is not None
        assert found.backing.backing is not None
        self.assertEqual(
            str(self.directory / 'middle'), found.backing.location
        )
        self.assertEqual('raw', found.backing.backing.format)

    def test_no_backing_file(self) -> None:
        path = self.directory / 'disk'
        base.tool('qemu-img', 'create', '-q', '-f', 'qcow2', path, '1M')
        source = storage.DiskSource(
            'file', 'qcow2', str(path), is_chain_known=False
        )
        found = READER.completed(source)
        self.assertTrue(found.is_chain_known)
        self.assertIsNone(found.backing)

    def test_known_chain_is_left_alone(self) -> None:
        source = storage.DiskSource('file', 'qcow2', '/nonexistent')
        self.assertEqual(source, READER.completed(source))

    def test_base_without_a_format_is_not_followed(self) -> None:
        source = self.overlay(self.raw(), records_format=False)
        error = self.assertRaises(
            exception.UnsafeDisk,
            READER.completed,
            self.unknown(source),
        )
        for text in ('format', 'qemu-img rebase', source.describe()):
            self.assertIn(text, str(error))

    def test_base_elsewhere_than_on_this_host_is_not_followed(self) -> None:
        path = self.directory / 'disk'
        base.tool(
            *('qemu-img', 'create', '-q', '-f', 'qcow2', '-u', '-F', 'raw'),
            *('-b', 'nbd://192.0.2.1/x', path, '1M'),
        )
        source = storage.DiskSource(
            'file', 'qcow2', str(path), is_chain_known=False
        )
        error = self.assertRaises(
            exception.UnsafeDisk, READER.completed, source
        )
        self.assertIn('192.0.2.1', str(error))

    def test_relative_base_is_relative_to_the_disk(self) -> None:
        below = self.raw()
        path = self.directory / 'disk'
        base.tool(
            *('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'raw'),
            *('-b', 'base', path),
        )
        source = storage.DiskSource(
            'file', 'qcow2', str(path), is_chain_known=False
        )
        found = READER.completed(source)
        self.assert_same_content(found, below)

    def refuse(
        self,
        source: storage.DiskSource,
        says: object,
        reader: backing_chain.Reader = READER,
    ) -> None:
        error = self.assertRaises(
            exception.UnsafeDisk, reader.completed, self.unknown(source)
        )
        self.assertIn(str(says), str(error))

    def test_base_in_another_folder(self) -> None:
        elsewhere = self.folder()
        below = storage.DiskSource('file', 'raw', str(elsewhere / 'base'))
        (elsewhere / 'base').write_bytes(bytes(base.SIZE))
        source = self.overlay(below)
        self.refuse(source, f'that {below.location} is its backing file')
        for root in (elsewhere, elsewhere.parent):
            reader = backing_chain.Reader((root,))
            self.assertEqual(
                below.location,
                reader.completed(self.unknown(source)).backing.location,
            )

    def test_folder_whose_name_begins_alike(self) -> None:
        beside = self.directory.with_name(f'{self.directory.name}-other')
        beside.mkdir()
        self.addCleanup(shutil.rmtree, beside)
        below = storage.DiskSource('file', 'raw', str(beside / 'base'))
        (beside / 'base').write_bytes(bytes(base.SIZE))
        reader = backing_chain.Reader((self.directory,))
        self.refuse(self.overlay(below), below.location, reader)

    def test_dots_in_a_name(self) -> None:
        elsewhere = self.folder()
        (elsewhere / 'base').write_bytes(bytes(base.SIZE))
        name = os.path.relpath(elsewhere / 'base', self.directory)
        source = self.overlay(
            storage.DiskSource('file', 'raw', f'{self.directory}/{name}')
        )
        reader = backing_chain.Reader((self.directory,))
        self.refuse(source, name, reader)

    def test_disk_behind_a_link(self) -> None:
        """Its folder is that of the link, and that of the file."""
        source = self.overlay(self.raw())
        link = self.folder() / 'link'
        link.symlink_to(source.location)
        found = READER.completed(
            self.unknown(storage.DiskSource('file', 'qcow2', str(link)))
        )
        self.assert_same_content(source, found)

    def test_backing_file_behind_a_link(self) -> None:
        """What was looked at is read, whatever the link is made to name."""
        raw = self.raw()
        link = self.directory / 'link'
        link.symlink_to(raw.location)
        source = self.overlay(storage.DiskSource('file', 'raw', str(link)))
        found = READER.completed(self.unknown(source))
        assert found.backing is not None
        self.assertEqual(os.path.realpath(link), found.backing.location)

    def test_what_is_no_file(self) -> None:
        fifo = self.directory / 'fifo'
        os.mkfifo(fifo)
        for path, says in (
            (fifo, 'no ordinary file'),
            (pathlib.Path('/dev/zero'), 'no ordinary file'),
            (self.directory / 'missing', 'No such file'),
        ):
            source = self.directory / 'disk'
            source.unlink(missing_ok=True)
            base.tool(
                *('qemu-img', 'create', '-q', '-f', 'qcow2', '-u', '-F'),
                *('raw', '-b', path, source, '1M'),
            )
            self.refuse(storage.DiskSource('file', 'qcow2', str(source)), says)

    def test_longest_chain(self) -> None:
        self.useFixture(
            fixtures.MonkeyPatch(f'{backing_chain.__name__}.MAX_LAYERS', 3)
        )
        source = self.overlay(self.overlay(self.raw(), 'middle'))
        found = READER.completed(self.unknown(source))
        self.assertEqual(3, len(list(found.layers())))
        self.refuse(self.overlay(source, 'top'), 'more than 3 layers')

    def test_layers_that_the_definition_names(self) -> None:
        """The header of the last of them is read, and no other."""
        middle = self.overlay(self.raw(), 'middle')
        (self.directory / 'disk').write_bytes(b'no header')
        source = dataclasses.replace(
            self.unknown(
                storage.DiskSource(
                    'file', 'qcow2', str(self.directory / 'disk')
                )
            ),
            backing=self.unknown(middle),
        )
        found = READER.completed(source)
        self.assertEqual(
            ['disk', 'middle', 'base'],
            [os.path.basename(layer.describe()) for layer in found.layers()],
        )
        self.assertTrue(all(layer.is_chain_known for layer in found.layers()))
