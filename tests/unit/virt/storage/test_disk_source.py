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


"""The names under which QEMU's tools open disks: every driver is named."""

import json
from typing import Any

from nova_snap.virt.storage import disk_source as storage
from tests.unit import base

RAW = storage.DiskSource('file', 'raw', '/srv/base')
MIDDLE = storage.DiskSource('file', 'qcow2', '/srv/middle', RAW)
TOP = storage.DiskSource('file', 'qcow2', '/srv/top', MIDDLE)


def node(source: storage.DiskSource) -> dict[str, Any]:
    """Return the block node that the name of a disk has."""
    prefix, _, text = storage.image_name(source).partition(':')
    assert prefix == 'json'
    found: dict[str, Any] = json.loads(text)
    return found


class DiskFormatTest(base.TestCase):
    """The disk_format of an image, by the source type of its disk."""

    def test_that_of_the_disk(self) -> None:
        for name in ('qcow2', 'raw'):
            self.assertEqual(
                name, storage.disk_format(storage.SourceType(name))
            )

    def test_raw_where_the_disk_has_no_format(self) -> None:
        for name in ('lvm', 'rbd'):
            self.assertEqual(
                'raw', storage.disk_format(storage.SourceType(name))
            )

    def test_configured(self) -> None:
        for source_type in storage.SourceType:
            for wanted in ('raw', 'qcow2', 'vmdk', 'vdi'):
                self.assertEqual(
                    wanted, storage.disk_format(source_type, wanted)
                )

    def test_words_of_nova_that_libvirt_disks_do_not_have(self) -> None:
        self.assertEqual('ploop', storage.disk_format('ploop'))
        self.assertEqual('raw', storage.disk_format('rbd', ''))


class ImageNameTest(base.TestCase):
    """Disks by where they are."""

    def test_raw_file(self) -> None:
        self.assertEqual(
            {
                'driver': 'raw',
                'file': {'driver': 'file', 'filename': '/srv/base'},
            },
            node(RAW),
        )

    def test_every_layer_has_its_driver(self) -> None:
        name = node(TOP)
        self.assertEqual('qcow2', name['driver'])
        self.assertEqual('/srv/top', name['file']['filename'])
        self.assertEqual('qcow2', name['backing']['driver'])
        self.assertEqual('/srv/middle', name['backing']['file']['filename'])
        self.assertEqual(node(RAW), name['backing']['backing'])

    def test_end_of_the_chain_is_said(self) -> None:
        end = storage.DiskSource('file', 'qcow2', '/srv/top')
        self.assertIsNone(node(end).get('backing', 'not said'))

    def test_block_device(self) -> None:
        source = storage.DiskSource('block', 'raw', '/dev/vg/a')
        self.assertEqual(
            {'driver': 'host_device', 'filename': '/dev/vg/a'},
            node(source)['file'],
        )

    def test_path_with_characters_that_mean_something(self) -> None:
        path = '/srv/a:b,c"d\\e ü{}'
        source = storage.DiskSource('file', 'raw', path)
        self.assertEqual(path, node(source)['file']['filename'])

    def test_rbd(self) -> None:
        location = storage.RbdLocation(
            'vms', 'a_disk', (('192.0.2.1', '6789'),), 'cinder', '/etc/c.conf'
        )
        self.assertEqual(
            {
                'driver': 'raw',
                'file': {
                    'driver': 'rbd',
                    'pool': 'vms',
                    'image': 'a_disk',
                    'server': [{'host': '192.0.2.1', 'port': '6789'}],
                    'user': 'cinder',
                    'conf': '/etc/c.conf',
                },
            },
            node(storage.DiskSource('network', 'raw', location)),
        )

    def test_rbd_with_a_key_of_libvirt(self) -> None:
        location = storage.RbdLocation('vms', 'a', user='nova', secret='s')
        source = storage.DiskSource('network', 'raw', location)
        node = json.loads(storage.image_name(source).removeprefix('json:'))
        self.assertEqual(storage.key_object('s'), node['file']['key-secret'])
        self.assertEqual({'s'}, source.secrets)
        self.assertFalse(source.is_encrypted)

    def test_rbd_by_the_defaults_of_ceph(self) -> None:
        location = storage.RbdLocation('vms', 'a_disk')
        self.assertEqual(
            {'driver': 'rbd', 'pool': 'vms', 'image': 'a_disk'},
            node(storage.DiskSource('network', 'raw', location))['file'],
        )

    def test_luks_around_a_raw_disk(self) -> None:
        source = storage.DiskSource(
            'file', 'raw', '/srv/a', encryption_secret='s'
        )
        self.assertEqual('luks', node(source)['driver'])
        self.assertEqual('key-s', node(source)['key-secret'])

    def test_luks_inside_qcow2(self) -> None:
        source = storage.DiskSource(
            'file', 'qcow2', '/srv/a', RAW, encryption_secret='s'
        )
        self.assertEqual(
            {'format': 'luks', 'key-secret': 'key-s'},
            node(source)['encrypt'],
        )
        self.assertEqual('raw', node(source)['backing']['driver'])

    def test_each_layer_has_its_own_secret(self) -> None:
        below = storage.DiskSource(
            'file', 'raw', '/srv/a', encryption_secret='one'
        )
        source = storage.DiskSource(
            'file', 'qcow2', '/srv/b', below, encryption_secret='two'
        )
        self.assertEqual({'one', 'two'}, source.secrets)
        self.assertEqual('key-two', node(source)['encrypt']['key-secret'])
        self.assertEqual('key-one', node(source)['backing']['key-secret'])
        self.assertEqual(frozenset(), RAW.secrets)


class DescriptionTest(base.TestCase):
    """What messages and policies say of a disk."""

    def test_location(self) -> None:
        self.assertEqual('/srv/top', TOP.describe())
        rbd = storage.DiskSource(
            'network', 'raw', storage.RbdLocation('vms', 'a')
        )
        self.assertEqual('rbd:vms/a', rbd.describe())

    def test_encryption_of_any_layer_counts(self) -> None:
        secret = storage.DiskSource('file', 'raw', '/a', encryption_secret='')
        top = storage.DiskSource('file', 'qcow2', '/b', secret)
        self.assertTrue(top.is_encrypted)
        self.assertFalse(TOP.is_encrypted)
