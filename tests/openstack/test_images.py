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

"""Every kind of root disk and image, and servers with more disks.

A snapshot boots; a snapshot of what booted from it boots, too.
"""

import dataclasses
import json
import pathlib

from tests.lab import command
from tests.lab import disk as disk_lib
from tests.lab import exhaustive
from tests.openstack import base
from tests.openstack import mode
from tests.openstack import seed


@dataclasses.dataclass(frozen=True)
class Case:
    """A server's root disk, and the image of it.

    :ivar images_type: Nova's ``[libvirt] images_type``.
    :ivar disk_format: what that makes of a root disk.
    """

    images_type: str
    disk_format: str
    method: str
    image_format: str


CASES = exhaustive.choose(
    (
        Case('raw', 'raw', 'mirror', 'raw'),
        Case('raw', 'raw', 'pull', 'qcow2'),
        Case('flat', 'raw', 'mirror', 'qcow2'),
        Case('qcow2', 'qcow2', 'pull', 'raw'),
    ),
    (
        Case('flat', 'raw', 'mirror', 'qcow2'),
        Case('qcow2', 'qcow2', 'pull', 'raw'),
    ),
)


class TestImages(base.CloudTestCase):
    """Nova's options that say what a disk and an image are made of."""

    def check(self, case: Case) -> None:
        """Boot, snapshot, boot from that."""
        options = {
            'libvirt.images_type': case.images_type,
            'libvirt.snapshot_image_format': case.image_format,
        }
        self.compute.run(mode.Mode(method=case.method).with_options(options))
        server = self.make_server(flavor=seed.FLAVOR_SMALL)
        self.assertEqual(case.disk_format, disk_lib.probed_format(server.disk))
        ticks = server.ticks() - 40
        with self.as_found(server):
            image_id = self.take(server)
        self.assertEqual(case.image_format, self.image(image_id).disk_format)
        self.assert_image_right(image_id, ticks, case.image_format)
        server.delete()
        self.assert_boots(image_id, ticks, seed.FLAVOR_SMALL).delete()

    def test_each(self) -> None:
        for case in CASES:
            with self.subTest(case=case):
                self.check(case)

    def test_compressed_with_more_disks(self) -> None:
        self.compute.run(
            mode.Mode().with_options({'libvirt.snapshot_compression': 'true'})
        )
        server = self.make_server(
            flavor=seed.FLAVOR_WITH_DISKS, config_drive=True
        )
        for name in ('disk.eph0', 'disk.swap', 'disk.config'):
            self.assertTrue((server.folder / name).exists(), name)
        ticks = server.ticks() - 40
        with self.as_found(server):
            image_id = self.take(server)
        self.assert_image_right(image_id, ticks)
        self.assertGreater(compressed_clusters(self.image_file(image_id)), 0)

    def test_snapshot_of_a_snapshot(self) -> None:
        first = self.shared_server()
        ticks = first.ticks() - 40
        second = self.assert_boots(self.take(first), ticks)
        ticks = second.ticks() - 40
        image_id = self.take(second)
        second.delete()
        third = self.assert_boots(image_id, ticks)
        self.assertGreater(third.found_at_boot() or 0, ticks)


def compressed_clusters(image: pathlib.Path) -> int:
    """How many clusters of a qcow2 image are compressed."""
    said = command.run(
        'qemu-img', 'check', '-f', 'qcow2', '--output=json', image
    ).stdout
    return int(json.loads(said).get('compressed-clusters', 0))
