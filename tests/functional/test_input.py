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

"""What wrong input gets: a sentence that helps, and nothing begun.

Each error is checked for its exit status, for what its one sentence names,
and for the guest and the directories being as they were.
"""

import json
import os
import re
import subprocess
import uuid

import libvirt

from nova_snap.image import store_folder
from tests.functional import base
from tests.lab import disk
from tests.lab import domain
from tests.lab import event_watch
from tests.lab import exhaustive
from tests.lab import guest as guest_lib
from tests.lab import root_disk

FAILED = 1
INVALID = 2
NOT_FOUND = 3
CONFLICT = 4
NOT_PERMITTED = 5
UNAVAILABLE = 6

NOBODY = 65534

DISK = r"<disk type='file'.*?</disk>"


NAMES = exhaustive.choose(
    ('n' * 255, '名' * 255, 'снимок', 'صورة'), ('名' * 255,)
)
FIELDS = exhaustive.choose(
    ('id', 'status', 'size', 'visibility', 'disk_format'), ('disk_format',)
)


class InputTestCase(base.SnapshotTestCase):
    """The command is run with -v; an error is one line all the same."""

    def assert_refused(self, status: int, says: str, *arguments: str) -> None:
        """Nothing is begun, and the last line says why.

        :param says: a regular expression.
        """
        done = self.run_command(*arguments, status=status)
        self.assertEqual('', done.stdout)
        self.assertNotIn('Traceback', done.stderr)
        last = done.stderr.strip().splitlines()[-1]
        self.assertRegex(last, says)
        self.assertNotIn('task state', done.stderr)
        self.assert_nothing_left()
        self.assertEqual([], self.image_ids())

    def image_ids(self) -> list[str]:
        directory = self.state_path / 'images'
        found = set(os.listdir(directory)) if directory.exists() else set()
        return sorted(found - {store_folder.MARK})

    def define(self, **options: object) -> guest_lib.Guest:
        """Define a guest that is shut off."""
        return self.make_guest(start=False, **options)

    def define_xml(self, old: str, new: str, **options: object) -> str:
        """Define a guest with its XML changed; returns its uuid."""
        guest = self.define(**options)
        with self.libvirtd.connection() as connection:
            xml = guest.inactive_xml()
            self.assertRegex(xml, f'(?s){old}')
            changed = re.sub(old, new, xml, count=1, flags=re.DOTALL)
            connection.defineXML(changed)
        return guest.uuid


class TestServer(InputTestCase):
    """Which server is meant."""

    def test_unknown_name(self) -> None:
        self.assert_refused(
            NOT_FOUND,
            "No server with a name or ID of 'nobody'.*nova-snap list",
            *('image-create', 'nobody', 'image'),
        )
        self.assert_refused(NOT_FOUND, "'nobody'", 'explain', 'nobody')

    def test_unknown_id(self) -> None:
        unknown = str(uuid.uuid4())
        self.assert_refused(
            NOT_FOUND, unknown, 'image-create', unknown, 'image'
        )

    def test_empty_name(self) -> None:
        self.assert_refused(NOT_FOUND, "''", 'image-create', '', 'image')

    def test_ambiguous_name(self) -> None:
        metadata = domain.NovaMetadata(name='twin')
        guests = [self.define(metadata=metadata) for _ in range(2)]
        self.assert_refused(
            CONFLICT,
            "More than one server has the name or ID 'twin' .*"
            f'{guests[0].uuid}.*give the ID',
            *('image-create', 'twin', 'image'),
        )

    def test_name_that_is_the_id_of_another(self) -> None:
        other = self.define()
        self.define(name=other.uuid)
        self.assert_refused(
            CONFLICT, f'{other.uuid}.*give the ID', 'explain', other.uuid
        )

    def test_name_in_nova_that_is_the_id_of_another(self) -> None:
        other = self.define()
        self.define(metadata=domain.NovaMetadata(name=other.uuid))
        self.run_command('image-create', other.uuid, 'image')
        (image,) = self.images.list()
        self.assertEqual(other.uuid, image.properties['instance_uuid'])

    def test_name_that_looks_like_an_id(self) -> None:
        name = str(uuid.uuid4())
        self.define(name=name)
        done = self.run_command('explain', name, '-f', 'json')
        self.assertIn('shutdown', done.stdout)

    def test_every_way_to_name_one(self) -> None:
        metadata = domain.NovaMetadata(name='名前 сервер')
        guest = self.define(name='δοκιμή-1', metadata=metadata)
        for server in (
            guest.uuid,
            guest.uuid.upper(),
            guest.uuid.replace('-', ''),
            'δοκιμή-1',
            '名前 сервер',
        ):
            with self.subTest(server=server):
                done = self.run_command('explain', server, '-f', 'json')
                self.assertIn('shutdown', done.stdout)
        listed = self.run_command('list', '-f', 'json').stdout
        self.assertIn('名前 сервер', [s['Name'] for s in json.loads(listed)])


class TestImage(InputTestCase):
    """The name and the metadata of the image."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.define().uuid

    def refuse(self, says: str, *arguments: str) -> None:
        self.assert_refused(
            INVALID, says, 'image-create', self.server, *arguments
        )

    def test_names(self) -> None:
        self.refuse('name is not valid: it is empty', '')
        self.refuse('name is not valid: it is empty', '  ')
        self.refuse('it has 256 characters; 255 are allowed', 'n' * 256)
        self.refuse('256 characters', '名' * 256)
        self.refuse('cannot be printed', 'a\nb')

    def test_longest_names(self) -> None:
        for name in NAMES:
            with self.subTest(name=name):
                done = self.run_command(
                    *('image-create', self.server, name, '-f', 'json')
                )
                self.assertEqual(name, json.loads(done.stdout)['name'])

    def test_metadata(self) -> None:
        self.refuse("'colour' is not of the form", 'i', '--metadata', 'colour')
        self.refuse("'=red' is not of the form", 'i', '--metadata', '=red')
        self.refuse(
            'the key .* has 256 characters',
            *('i', '--metadata', f'{"k" * 256}=v'),
        )
        self.refuse(
            "value of 'k' has 256 characters; 255 are allowed",
            *('i', '--metadata', f'k={"v" * 256}'),
        )
        many = [f'--metadata=key{number}=v' for number in range(129)]
        self.refuse('it has 129 items; 128 are allowed', 'i', *many)

    def test_metadata_that_is_a_field(self) -> None:
        for key in FIELDS:
            with self.subTest(key=key):
                self.refuse(key, 'i', '--metadata', f'{key}=x')

    def test_metadata_at_the_limit(self) -> None:
        many = [f'--metadata=key{number}=v' for number in range(127)]
        longest = f'--metadata={"k" * 255}={"v" * 255}'
        self.run_command('image-create', self.server, 'i', *many, longest)
        (image,) = self.images.list()
        self.assertEqual('v' * 255, image.properties['k' * 255])
        self.assertEqual('v', image.properties['key126'])


class TestUsage(InputTestCase):
    """Options and arguments."""

    def test_wrong_options(self) -> None:
        self.refuse_usage('unrecognized arguments', 'list', '--nothing')
        self.refuse_usage('required: SERVER', 'image-create')
        self.refuse_usage('SERVER and a NAME', 'image-create', 'server')
        self.refuse_usage(
            'unrecognized arguments', 'image-create', 's', 'n', 'more'
        )
        self.refuse_usage('not a .*command', 'image-destroy', 'x')
        self.refuse_usage("invalid choice: 'xls'", 'list', '-f', 'xls')

    def refuse_usage(self, says: str, *arguments: str) -> None:
        done = self.run_command(*arguments, status=INVALID)
        self.assertRegex(done.stdout + done.stderr, says)
        self.assertNotIn('Traceback', done.stderr)
        self.assert_nothing_left()

    def test_unknown_image(self) -> None:
        self.assert_refused(
            NOT_FOUND, "Image 'none' does not exist", 'image-show', 'none'
        )


class TestConfiguration(InputTestCase):
    """nova_snap.conf."""

    def test_missing(self) -> None:
        self.config.unlink()
        self.refuse('Failed to find some config files.*nova_snap.conf')

    def test_is_a_directory(self) -> None:
        self.config.unlink()
        self.config.mkdir()
        self.refuse('nova_snap.conf')

    def test_broken(self) -> None:
        self.config.write_text('this is no configuration\n')
        self.refuse('nova_snap.conf.*this is no configuration')

    def test_not_text(self) -> None:
        self.config.write_bytes(b'\xff\xfe\x00[DEFAULT]\n')
        self.refuse('nova_snap.conf')

    def test_wrong_type(self) -> None:
        self.configure(libvirt={'quiesce_timeout': 'soon'})
        self.refuse('quiesce_timeout.*soon')

    def test_out_of_range(self) -> None:
        self.configure(libvirt={'quiesce_timeout': '0'})
        self.refuse('quiesce_timeout')

    def test_wrong_choice(self) -> None:
        self.configure(libvirt={'snapshot_image_format': 'vhd'})
        self.refuse('snapshot_image_format.*vhd')

    def test_unknown_image_service(self) -> None:
        self.configure(snapshot={'image_service': 'shelf'})
        self.refuse(r"\[snapshot\] image_service: .*'shelf'")

    def refuse(self, says: str) -> None:
        server = self.define().uuid
        self.assert_refused(INVALID, says, 'image-create', server, 'image')


class TestOthers(InputTestCase):
    """libvirt, Glance and the file system."""

    def test_libvirt_is_not_there(self) -> None:
        uri = f'qemu+unix:///system?socket={self.state_path}/none'
        self.configure(libvirt={'connection_uri': uri})
        says = f'libvirt at {re.escape(uri)} does not answer.*libvirtd'
        for words in ('list', 'explain x', 'image-create x image'):
            self.assert_refused(UNAVAILABLE, says, *words.split())

    def test_libvirt_uri_is_nonsense(self) -> None:
        self.configure(libvirt={'connection_uri': 'nonsense://'})
        self.assert_refused(UNAVAILABLE, 'nonsense.*does not answer', 'list')

    def test_glance_is_not_there(self) -> None:
        self.configure(
            snapshot={'image_service': 'glance'},
            glance={
                'auth_type': 'none',
                'endpoint_override': 'http://127.0.0.1:9',
                'num_retries': '0',
            },
        )
        guest = self.define()
        found = base.Found.of(guest)
        done = self.run_command(
            'image-create', guest.uuid, 'i', status=UNAVAILABLE
        )
        self.assertRegex(
            done.stderr.splitlines()[-1],
            'image service at http://127.0.0.1:9 does not answer',
        )
        self.assert_as_found(guest, found)
        self.assert_nothing_left()

    def test_state_path_of_somebody_else(self) -> None:
        self.check_not_permitted('state')

    def test_journal_of_somebody_else(self) -> None:
        self.check_not_permitted('state/journal')

    def test_snapshots_directory_of_somebody_else(self) -> None:
        self.check_not_permitted('state/snapshots')

    def test_images_of_somebody_else(self) -> None:
        self.check_not_permitted('state/images')

    def check_not_permitted(self, name: str) -> None:
        """Permissions bind us, and a directory belongs to somebody else."""
        guest = self.define()
        state, path = self.state_path / 'state', self.state_path / name
        self.configure(
            DEFAULT={'state_path': str(state)},
            libvirt={'snapshots_directory': str(state / 'snapshots')},
        )
        path.mkdir(mode=0o700, parents=True)
        os.chown(path, NOBODY, NOBODY)
        done = self.without_override('image-create', guest.uuid, 'i')
        self.assertEqual(NOT_PERMITTED, done.returncode, done.stderr)
        self.assertRegex(
            done.stderr.splitlines()[-1],
            f'may not (write to|read .* in) {re.escape(str(path))}|'
            f'does not permit.* may write to {re.escape(str(path))}|'
            f'{re.escape(str(path))} belongs to user {NOBODY}',
        )
        self.assertNotIn('Traceback', done.stderr)

    def test_file_in_place_of_a_directory(self) -> None:
        path = self.state_path / 'file'
        path.touch()
        server = self.define().uuid
        for place in (path, path / 'below'):
            for section, option in (
                ('DEFAULT', 'state_path'),
                ('libvirt', 'snapshots_directory'),
            ):
                with self.subTest(option=option, place=place):
                    self.configure(**{section: {option: str(place)}})
                    self.assert_refused(
                        INVALID,
                        f'{option}.*no directory|no directory.*{option}',
                        *('image-create', server, 'i'),
                    )

    def test_unreadable_configuration(self) -> None:
        os.chown(self.config, NOBODY, NOBODY)
        self.config.chmod(0o600)
        done = self.without_override('list')
        self.assertEqual(INVALID, done.returncode, done.stderr)
        self.assertRegex(done.stderr.splitlines()[-1], str(self.config))
        self.assertNotIn('Traceback', done.stderr)

    def without_override(
        self, *arguments: str
    ) -> subprocess.CompletedProcess[str]:
        """Run nova-snap as root whom permissions bind."""
        return self.finish(
            subprocess.Popen(
                ['setpriv', '--bounding-set=-dac_override,-dac_read_search']
                + ['--', *self.command(*arguments)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )


class TestGuest(InputTestCase):
    """Guests of which no image can be taken, and odd ones of which one can."""

    def refuse(self, server: str, says: str) -> None:
        for arguments in (('image-create', server, 'i'), ('explain', server)):
            self.assert_refused(INVALID, says, *arguments)

    def test_without_disks(self) -> None:
        server = self.define_xml(DISK, '')
        self.refuse(server, f'of server {server}: it has no disk')

    def test_only_a_cdrom(self) -> None:
        server = self.define_xml(
            r"device='disk'>(.*?)<target[^>]*>\s*<address[^>]*>",
            r"device='cdrom'>\1<target dev='hda' bus='ide'/><readonly/>",
        )
        self.refuse(server, 'it has no disk')

    def test_unknown_protocol(self) -> None:
        server = self.define_xml(
            DISK,
            "<disk type='network' device='disk'>"
            "<driver name='qemu' type='raw'/>"
            "<source protocol='iscsi' name='iqn.2026-01.test:disk/1'>"
            "<host name='127.0.0.1'/></source>"
            "<target dev='vda' bus='virtio'/></disk>",
        )
        self.refuse(server, "'iscsi'.*only 'rbd' is supported")

    def test_directory(self) -> None:
        server = self.define_xml(
            DISK,
            "<disk type='dir' device='disk'><driver name='qemu' type='fat'/>"
            f"<source dir='{self.state_path}'/>"
            "<target dev='vda' bus='virtio'/><readonly/></disk>",
        )
        self.refuse(server, "type 'dir'|format 'fat'")

    def test_unknown_format(self) -> None:
        server = self.define_xml("type='qcow2'", "type='vmdk'")
        self.refuse(server, "'vmdk'; qcow2 and raw are supported")

    def test_disk_file_is_missing(self) -> None:
        guest = self.define(kind=root_disk.Kind.RAW)
        guest.spec.disk.path.unlink()
        self.assert_refused(
            FAILED, str(guest.spec.disk.path), 'image-create', guest.uuid, 'i'
        )

    def test_base_file_is_missing(self) -> None:
        guest = self.define()
        base_file = guest.spec.disk.backing
        assert base_file is not None
        base_file.unlink()
        self.assert_refused(
            FAILED, str(base_file), 'image-create', guest.uuid, 'i'
        )

    def test_backing_file_without_a_format(self) -> None:
        guest = self.define()
        with open(guest.spec.disk.path, 'r+b') as file:
            head = file.read(1024)
            # The header extension that names the format of the base.
            at = head.index(b'\xe2\x79\x2a\xca')
            file.seek(at)
            file.write(b'\x12\x34\x56\x78')
        self.assert_refused(
            FAILED,
            'does not record the format of its backing file.*qemu-img rebase',
            *('image-create', guest.uuid, 'i'),
        )

    def test_disk_that_is_no_qcow2(self) -> None:
        guest = self.define()
        guest.spec.disk.path.write_bytes(b'no header at all' * 100)
        self.assert_refused(
            FAILED,
            'qemu-img failed.*not in qcow2 format',
            *('image-create', guest.uuid, 'i'),
        )

    def test_cdrom_first(self) -> None:
        for bus in ('virtio', 'scsi', 'ide'):
            with self.subTest(bus=bus):
                guest = self.make_guest(cdrom_first=True, bus=bus)
                found = base.Found.of(guest)
                image_id = self.image_create(guest)
                self.assert_as_found(guest, found)
                self.assert_nothing_left()
                self.assertEqual(
                    256 << 20,
                    disk.info(self.image_file(image_id), 'qcow2')[
                        'virtual-size'
                    ],
                )

    def test_boot_order(self) -> None:
        size = 64 << 20
        last = root_disk.make(self.directory(), name='last', size=size)
        server = self.define_xml(
            "<boot dev='hd'/>(.*)(<target dev='vdc')",
            r"\1<boot order='1'/>\2",
            extra_disks=(last,),
        )
        explained = json.loads(
            self.run_command('explain', server, '-f', 'json').stdout
        )
        self.assertEqual(
            ('root disk', 'vdc'), (explained[0]['Fact'], explained[0]['Value'])
        )
        done = self.run_command('image-create', server, 'i', '-f', 'json')
        image = self.image_file(json.loads(done.stdout)['id'])
        self.assertEqual(size, disk.info(image, 'qcow2')['virtual-size'])

    def test_slice(self) -> None:
        piece = "<slice type='storage' offset='1048576' size='1048576'/>"
        server = self.define_xml(
            "(<source file='[^']*')/>",
            rf'\1><slices>{piece}</slices></source>',
            kind=root_disk.Kind.RAW,
        )
        self.assert_refused(INVALID, 'is a slice', 'explain', server)

    def test_lun(self) -> None:
        server = self.define_xml(
            "device='disk'",
            "device='lun'",
            kind=root_disk.Kind.BLOCK,
            bus='scsi',
        )
        self.assert_refused(INVALID, 'is a LUN', 'explain', server)

    def test_another_disk_is_offered(self) -> None:
        data = root_disk.make(self.directory(), name='data')
        server = self.define_xml(
            "device='disk'",
            "device='lun'",
            kind=root_disk.Kind.BLOCK,
            bus='scsi',
            extra_disks=(data,),
        )
        self.assert_refused(
            INVALID, 'is a LUN.*--disk.*: sdc', 'explain', server
        )
        self.run_command('image-create', server, 'i', '--disk', 'sdc')

    def test_transient(self) -> None:
        guest = self.make_guest(persistent=False)
        for method in ('mirror', 'pull'):
            self.configure(snapshot={'live_method': method})
            found = base.Found.of(guest)
            self.image_create(guest)
            self.assert_as_found(guest, found)
            self.assert_nothing_left()
        self.assertFalse(guest.is_persistent())

    def test_suspended_to_memory(self) -> None:
        guest = self.make_guest(agent=True)
        with guest.domain() as dom:
            dom.pMSuspendForDuration(libvirt.VIR_NODE_SUSPEND_TARGET_MEM, 0)
            guest.wait_for(
                lambda: dom.state()[0] == libvirt.VIR_DOMAIN_PMSUSPENDED,
                *('suspension', 60),
            )
        with event_watch.EventWatch(self.libvirtd, guest) as watch:
            self.refuse(guest.uuid, 'suspended to memory; wake it up first')
        # Its agent may be heard to fall silent only now.
        events = {event.partition(':')[0] for event in watch.events}
        self.assertEqual(set(), events - {'agent-lifecycle'})

    def test_transient_that_would_be_suspended(self) -> None:
        guest = self.make_guest(persistent=False)
        self.configure(workarounds={'disable_libvirt_livesnapshot': 'true'})
        with event_watch.EventWatch(self.libvirtd, guest) as watch:
            self.refuse(guest.uuid, 'only persistent guests; define it first')
        self.assertEqual([], watch.events)
        self.assertTrue(guest.is_ticking())
