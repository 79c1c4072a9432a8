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

"""The image record, field by field, as a real Glance 33 has it.

Glance's own API is asked, not our adapter: what counts is what other clients
of Glance see.
"""

import json
import pathlib
import re
from typing import Any
import urllib.request
import uuid

from nova_snap.compute import image_definition
from nova_snap.image import schema
from tests.functional import base
from tests.functional import content
from tests.functional import test_content_hostile
from tests.functional.image import base as image_base
from tests.lab import command
from tests.lab import disk
from tests.lab import domain
from tests.lab import exhaustive
from tests.lab import guest as guest_lib
from tests.lab import root_disk

#: What Glance itself adds to each record.
OF_GLANCE = {
    *('checksum', 'created_at', 'file', 'id', 'locations', 'os_hash_algo'),
    *('os_hash_value', 'os_hidden', 'owner', 'protected', 'schema', 'self'),
    *('size', 'status', 'stores', 'tags', 'updated_at', 'virtual_size'),
    *(
        'direct_url',
        'os_glance_importing_to_stores',
        'os_glance_failed_import',
    ),
}

NAMES = exhaustive.choose(
    ('n' * 255, '名' * 255, 'снимок 1', 'صورة', "'\"<&>%s"),
    ('名' * 255, "'\"<&>%s"),
)
FIELDS = exhaustive.choose(
    ('id', 'owner', 'disk_format', 'os_glance_x', 'location'),
    ('owner', 'os_glance_x'),
)
FORMATS = exhaustive.choose(('raw', 'qcow2', 'vmdk', 'vdi'), ('vmdk', 'vdi'))

OWN = {
    'image_type': 'snapshot',
    'image_location': 'snapshot',
    'image_state': 'available',
}


class GlanceTestCase(content.ContentTestCase):
    """Images go to a real Glance."""

    def setUp(self) -> None:
        super().setUp()
        self.glance = image_base.real_glance()
        self.configure()

    def configure(self, **sections: dict[str, str]) -> None:
        if hasattr(self, 'glance'):
            sections.setdefault('snapshot', {})['image_service'] = 'glance'
            sections['glance'] = {
                'auth_type': 'none',
                'endpoint_override': self.glance.url,
            }
        super().configure(**sections)

    def request(
        self, method: str, path: str, body: dict[str, Any] | None = None
    ) -> Any:
        request = urllib.request.Request(
            f'{self.glance.url}/v2/{path}',
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={'Content-Type': 'application/json'},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            text = response.read()
        return json.loads(text) if text else None

    def record(self, image_id: str) -> dict[str, Any]:
        """Return the record from Glance; delete it after the test."""
        self.addCleanup(self.request, 'DELETE', f'images/{image_id}')
        record: dict[str, Any] = self.request('GET', f'images/{image_id}')
        return record

    def all_ids(self) -> set[str]:
        return {i['id'] for i in self.request('GET', 'images')['images']}

    def data(self, image_id: str) -> pathlib.Path:
        return self.glance.directory / 'images' / image_id

    def create(
        self, guest: guest_lib.Guest, name: str, *options: str
    ) -> dict[str, Any]:
        """Take an image; its record as Glance has it."""
        done = self.run_command(
            *('image-create', guest.uuid, name, '-f', 'json', *options)
        )
        return self.record(json.loads(done.stdout)['id'])

    def assert_refused(
        self, status: int, says: str, guest: guest_lib.Guest, *words: str
    ) -> None:
        """Check that a command fails, and leaves no image and no file."""
        found, before = base.Found.of(guest), self.all_ids()
        files = set(self.glance.directory.glob('images/*'))
        done = self.run_command(
            'image-create', guest.uuid, *words, status=status
        )
        self.assertNotIn('Traceback', done.stderr)
        self.assertRegex(done.stderr.strip().splitlines()[-1], says)
        self.assertEqual(before, self.all_ids())
        self.assertEqual(files, set(self.glance.directory.glob('images/*')))
        self.assert_as_found(guest, found)
        self.assert_nothing_left()


class TestRecord(GlanceTestCase):
    """What Nova's clients expect to find."""

    def test_of_a_guest_without_nova(self) -> None:
        guest = self.make_guest(start=False)
        record = self.create(guest, 'plain')
        definition = record.pop(image_definition.PROPERTY)
        self.assertIn('<target dev="vda"', definition)
        for word in (guest.uuid, guest.name, 'source', 'emulator', '/srv'):
            self.assertNotIn(word, definition)
        self.assertEqual(
            {
                'name': 'plain',
                'container_format': 'bare',
                'disk_format': 'qcow2',
                'min_disk': 1,
                'min_ram': 0,
                'visibility': 'private',
                'instance_uuid': guest.uuid,
                'architecture': 'x86_64',
                'hw_machine_type': 'pc',
                'hw_disk_bus': 'virtio',
                **OWN,
            },
            {k: v for k, v in record.items() if k not in OF_GLANCE},
        )
        self.assertEqual('active', record['status'])
        self.assertEqual(
            self.data(record['id']).stat().st_size, record['size']
        )
        self.assertEqual(
            guest.spec.disk.path.stat().st_size > 0, record['size'] > 0
        )

    def test_without_a_definition(self) -> None:
        guest = self.make_guest(start=False)
        record = self.create(guest, 'plain', '--no-definition')
        self.assertNotIn(image_definition.PROPERTY, record)

    def test_longest_property_that_glance_may_be_asked_for(self) -> None:
        # Of the type TEXT: what MySQL takes, and MariaDB, by their manuals.
        value = 'x' * schema.MAX_VALUE
        image = self.base_image(**{image_definition.PROPERTY: value})
        found = self.request('GET', f'images/{image}')
        self.assertEqual(value, found[image_definition.PROPERTY])

    def test_of_hardware_that_is_not_novas_default(self) -> None:
        guest = self.make_guest(
            start=False,
            bus='scsi',
            devices_xml="<interface type='user'><model type='e1000e'/>"
            '</interface>',
        )
        flash = "<loader readonly='yes' type='pflash'>/srv/OVMF.fd</loader>"
        with self.libvirtd.connection() as connection:
            xml = re.sub(
                "machine='[^']*'>hvm</type>",
                f"machine='q35'>hvm</type>{flash}",
                # libvirt has chosen a controller for the machine that it was.
                re.sub(
                    '(?s)<controller type=.(pci|ide).*?(/>|</controller>)',
                    '',
                    guest.inactive_xml(),
                ),
            )
            connection.defineXML(re.sub("<address type='pci'[^>]*>", '', xml))
        record = self.create(guest, 'q35', '--metadata', 'hw_vif_model=igb')
        found = {k: v for k, v in record.items() if k.startswith('hw_')}
        self.assertEqual(
            {
                'hw_firmware_type': 'uefi',
                'hw_machine_type': 'q35',
                'hw_disk_bus': 'scsi',
                'hw_scsi_model': 'virtio-scsi',
                'hw_vif_model': 'igb',
            },
            found,
        )

    def test_of_an_instance_of_nova(self) -> None:
        base_image = self.base_image(
            hw_disk_bus='virtio',
            hw_qemu_guest_agent='no',
            os_distro='debian',
            os_type='linux',
            architecture='x86_64',
            img_signature='c2ln',
            img_signature_hash_method='SHA-256',
            img_signature_key_type='RSA-PSS',
            img_signature_certificate_uuid=str(uuid.uuid4()),
            cinder_encryption_key_id=str(uuid.uuid4()),
            os_encrypt_key_id=str(uuid.uuid4()),
            os_encrypt_key_deletion_policy='on_image_deletion',
            os_decrypt_container_format='bare',
            block_device_mapping='[{"source_type": "snapshot"}]',
            bdm_v2='True',
            mappings='[]',
            root_device_name='/dev/vda',
            img_block_device_mapping='[]',
            img_owner_id='somebody',
            img_hide_hypervisor_id='true',
            cache_in_nova='true',
            bittorrent='true',
            colour='blue',
            image_type='overwritten',
            instance_uuid='overwritten',
        )
        guest = self.instance_of(base_image)
        record = self.create(
            guest, 'snap', '--metadata', 'colour=red', '--metadata', 'a=1=2'
        )
        self.assertNotIn(base_image, record.pop(image_definition.PROPERTY))
        self.assertEqual(
            {
                'name': 'snap',
                'container_format': 'bare',
                'disk_format': 'qcow2',
                'min_disk': 7,
                'min_ram': 96,
                'visibility': 'private',
                'instance_uuid': guest.uuid,
                'user_id': 'user-9',
                'owner_id': 'project-9',
                'base_image_ref': base_image,
                'hw_disk_bus': 'virtio',
                'hw_qemu_guest_agent': 'no',
                'os_distro': 'debian',
                'os_type': 'linux',
                'architecture': 'x86_64',
                'img_hide_hypervisor_id': 'true',
                'colour': 'red',
                'a': '1=2',
                **OWN,
            },
            {k: v for k, v in record.items() if k not in OF_GLANCE},
        )

    def test_configured_non_inheritable(self) -> None:
        base_image = self.base_image(secret_sauce='x', os_type='linux')
        self.configure(
            DEFAULT={'non_inheritable_image_properties': 'secret_sauce'}
        )
        record = self.create(self.instance_of(base_image), 'snap')
        self.assertEqual('linux', record['os_type'])
        self.assertNotIn('secret_sauce', record)

    def test_base_image_is_gone(self) -> None:
        gone = str(uuid.uuid4())
        record = self.create(self.instance_of(gone), 'snap')
        self.assertEqual(gone, record['base_image_ref'])
        self.assertEqual(7, record['min_disk'])
        self.assertEqual(0, record['min_ram'])

    def test_required_quiesce_that_is_not_possible(self) -> None:
        base_image = self.base_image(os_require_quiesce='yes')
        metadata = self.metadata(base_image)
        guest = self.make_guest(metadata=metadata)
        self.assert_refused(
            1,
            'demands os_require_quiesce.*hw_qemu_guest_agent',
            *(guest, 'snap'),
        )

    def base_image(self, **properties: str) -> str:
        """Make a base image, with a record and data."""
        body = {
            'name': 'base',
            'disk_format': 'qcow2',
            'container_format': 'bare',
            'min_disk': 3,
            'min_ram': 96,
            **properties,
        }
        record = self.request('POST', 'images', body)
        self.addCleanup(self.request, 'DELETE', f'images/{record["id"]}')
        return str(record['id'])

    @staticmethod
    def metadata(image_id: str) -> domain.NovaMetadata:
        return domain.NovaMetadata(
            name='my server',
            image_id=image_id,
            user_id='user-9',
            project_id='project-9',
            disk_gib=7,
        )

    def instance_of(self, image_id: str) -> guest_lib.Guest:
        return self.make_guest(start=False, metadata=self.metadata(image_id))


class TestInput(GlanceTestCase):
    """Names and metadata that Glance takes, or does not."""

    def setUp(self) -> None:
        super().setUp()
        self.guest = self.make_guest(start=False)

    def test_names(self) -> None:
        for name in NAMES:
            with self.subTest(name=name):
                record = self.create(self.guest, name)
                self.assertEqual(name, record['name'])

    def test_names_that_are_refused(self) -> None:
        self.assert_refused(2, '256 characters', self.guest, 'n' * 256)
        self.assert_refused(1, '4 byte', self.guest, '😀')

    def test_metadata_that_is_a_field(self) -> None:
        for key in FIELDS:
            with self.subTest(key=key):
                self.assert_refused(
                    *(2, key, self.guest, 'i', '--metadata', f'{key}=x')
                )

    def test_metadata_in_other_scripts(self) -> None:
        record = self.create(
            self.guest, 'i', '--metadata', 'цвет=красный', '--metadata', 'e='
        )
        self.assertEqual('красный', record['цвет'])
        self.assertEqual('', record['e'])

    def test_metadata_at_the_limits(self) -> None:
        many = [f'--metadata=key{number}=v' for number in range(100)]
        record = self.create(
            self.guest, 'i', *many, f'--metadata={"k" * 255}={"v" * 255}'
        )
        self.assertEqual('v' * 255, record['k' * 255])
        self.assertEqual('v', record['key99'])


class TestContent(GlanceTestCase):
    """Glance looks into what it gets."""

    def check_taken(self, guest: guest_lib.Guest) -> None:
        record = self.create(guest, 'raw')
        self.assertEqual('raw', record['disk_format'])
        self.assertEqual('active', record['status'])
        root = guest.spec.disk
        self.assertEqual(
            '',
            disk.differences(
                *(self.data(record['id']), 'raw', root.path, 'raw')
            ),
        )

    def test_raw_without_a_partition_table(self) -> None:
        self.check_taken(self.make_guest(kind=root_disk.Kind.RAW, start=False))

    def test_raw_with_a_gpt(self) -> None:
        self.check_taken(self.make_guest(kind=root_disk.Kind.GPT, start=False))

    def test_raw_with_an_mbr(self) -> None:
        guest = self.make_guest(kind=root_disk.Kind.RAW, start=False)
        command.run(
            *('sfdisk', '--quiet', '--force', '--wipe=never'),
            guest.spec.disk.path,
            stdin='label: dos\nstart=2048, type=83, bootable\n',
        )
        self.check_taken(guest)

    def test_every_format(self) -> None:
        guest = self.make_guest(start=False)
        for image_format in FORMATS:
            with self.subTest(format=image_format):
                self.configure(libvirt={'snapshot_image_format': image_format})
                record = self.create(guest, 'image')
                self.assertEqual(image_format, record['disk_format'])
                root = guest.spec.disk
                self.assertEqual(
                    '',
                    disk.differences(
                        *(self.data(record['id']), image_format),
                        *(root.path, root.format),
                    ),
                )

    def test_raw_that_claims_to_be_qcow2(self) -> None:
        self.assert_refused(
            *(1, 'rejected image .*safety checks'),
            *(self.hostile_guest('qcow2'), 'hostile'),
        )

    def test_raw_that_claims_what_glance_does_not_mind(self) -> None:
        # Of VMDK it knows the binary header only; LUKS may be raw content.
        for kind in ('vmdk', 'luks'):
            with self.subTest(header=kind):
                self.check_taken(self.hostile_guest(kind))

    def hostile_guest(self, kind: str) -> guest_lib.Guest:
        """Shut off; its raw disk begins with a header of another format."""
        guest = self.make_guest(kind=root_disk.Kind.RAW, start=False)
        path = guest.spec.disk.path
        with open(path, 'r+b') as file:
            file.write(test_content_hostile.HEADERS[kind](path.stat().st_size))
        return guest
