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


"""The Glance adapter against a real Glance that works."""

import hashlib
import io
import os
import subprocess
import sys
import tempfile
import textwrap
import time

import fixtures

from nova_snap import exception
from nova_snap import progress
from nova_snap.compute import image_download
from nova_snap.image import api
from tests.functional.image import base
from tests.lab import fault_proxy

MiB = base.MiB


class DownloadTest(base.GlanceTestCase):
    """The data of an image, as it is given back."""

    DATA = os.urandom(3 * MiB + 5)

    def setUp(self) -> None:
        super().setUp()
        self.image_id = self.new_image()
        self.service.upload(
            self.image_id, io.BytesIO(self.DATA), None, progress.Progress()
        )

    def downloaded(self) -> bytes:
        file = io.BytesIO()
        image_download.write(
            self.service,
            self.service.get(self.image_id),
            file,
            progress.Progress(),
        )
        return file.getvalue()

    def test_data_comes_back(self):
        self.assertEqual(self.DATA, self.downloaded())

    def test_image_that_is_gone(self):
        image = self.service.get(self.image_id)
        self.service.delete(self.image_id)
        self.assertRaises(
            exception.ImageNotFound,
            image_download.write,
            *(self.service, image, io.BytesIO(), progress.Progress()),
        )


class RecordTest(base.GlanceTestCase):
    def test_record_comes_back_as_it_was_made(self):
        made = base.record(
            min_disk=3, min_ram=64, properties={'a': 'b', 'os_type': 'linux'}
        )
        self.service.create(made)
        found = self.service.get(made.id)
        self.assertEqual('queued', found.status)
        self.assertEqual((3, 64), (found.min_disk, found.min_ram))
        self.assertEqual('private', found.visibility)
        self.assertEqual({'a': 'b', 'os_type': 'linux'}, found.properties)
        self.assertIsNone(found.size)

    def test_taken_id_is_a_conflict(self):
        image_id = self.new_image()
        self.assertRaises(
            exception.ImageConflict,
            self.service.create,
            base.record(id=image_id, name='another'),
        )

    def test_create_is_repeated_when_its_answer_is_lost(self):
        self.proxy.add('POST', '/images$', fault_proxy.CutResponse(10))
        image_id = self.new_image()
        self.assertEqual(2, self.proxy.count('POST', '/images$'))
        self.assertEqual('queued', self.service.get(image_id).status)

    def test_names_in_other_scripts_and_of_255_characters(self):
        for name in ('snímek', '快照', 'ñ' * 255, 'a b/c"d\'e&<f>'):
            image_id = self.new_image(name=name)
            self.assertEqual(name, self.service.get(image_id).name)
            found = [i.id for i in self.service.list(name=name)]
            self.assertEqual([image_id], found)
            self.service.delete(image_id)

    def test_values_that_are_refused(self):
        for fields in (
            {'name': 'n' * 256},
            {'name': '\N{CAMERA WITH FLASH}'},
            {'disk_format': 'qcow3'},
            {'container_format': 'bear'},
            {'properties': {'size': '5'}},
            {'properties': {'os_glance_x': '5'}},
            {'properties': {'k' * 256: 'v'}},
            {'visibility': 'secret'},
            {'min_disk': -1},
        ):
            made = base.record(**fields)
            error = self.assertRaises(
                exception.ImageRejected, self.service.create, made
            )
            self.assertNotIn('<', str(error))
            self.assertRaises(
                exception.ImageNotFound, self.service.get, made.id
            )

    def test_128_properties_are_kept_and_129_are_too_many(self):
        many = {f'key{i}': f'välue {i}' for i in range(128)}
        image_id = self.new_image(properties=many)
        self.assertEqual(many, self.service.get(image_id).properties)
        self.assertRaises(
            exception.ImageTooLarge,
            self.service.create,
            base.record(properties={**many, 'one': 'more'}),
        )

    def test_update_adds_properties(self):
        image_id = self.new_image(properties={'a': 'b'})
        self.service.update(image_id, name='x', properties={'c': 'd'})
        found = self.service.get(image_id)
        self.assertEqual('x', found.name)
        self.assertEqual({'a': 'b', 'c': 'd'}, found.properties)

    def test_update_removes_properties(self):
        image_id = self.new_image(properties={'a:b': 'c', 'd': 'e'})
        for _again in range(2):
            self.service.update(image_id, properties={'a:b': None, 'f': 'g'})
            found = self.service.get(image_id)
            self.assertEqual({'d': 'e', 'f': 'g'}, found.properties)

    def test_shared_again_when_its_answer_is_lost(self):
        image_id = self.new_image(visibility='shared')
        self.proxy.add('POST', '/members$', fault_proxy.CutResponse(10))
        self.service.share(image_id, 'project')
        self.assertEqual(2, self.proxy.count('POST', '/members$'))
        members = self.service._client.image_members.list(image_id)
        self.assertEqual(['project'], [m['member_id'] for m in members])

    def test_update_of_what_is_not_ours_is_refused(self):
        image_id = self.new_image()
        for changes in ({'status': 'active'}, {'properties': {'id': 'x'}}):
            self.assertRaises(
                exception.ImageRejected,
                self.service.update,
                image_id,
                **changes,
            )

    def test_delete_of_what_is_gone_is_fine(self):
        image_id = self.new_image()
        self.service.delete(image_id)
        self.service.delete(image_id)
        self.assertRaises(exception.ImageNotFound, self.service.get, image_id)


class UploadTest(base.GlanceTestCase):
    def test_data_arrives_whole(self):
        data = base.random_bytes(5 * MiB + 1)
        seen = []
        image_id = self.new_image()
        watch = progress.Progress('server', seen.append)
        image = self.upload(image_id, data, watch)
        self.assertEqual(api.ImageStatus.ACTIVE, image.status)
        self.assertEqual(len(data), image.size)
        self.assertEqual(hashlib.sha512(data).hexdigest(), image.hash_value)
        self.assertEqual(data, self.stored(image_id))
        self.assertEqual(
            progress.Report(progress.Stage.UPLOADING, len(data), len(data)),
            seen[-1],
        )

    def test_no_more_requests_than_are_needed(self):
        image_id = self.new_image()
        service = self.make_service(self.proxy.url)
        before = len(self.proxy.requests)
        service.prepare(image_id)
        service.upload(
            image_id, io.BytesIO(b'x'), 1, progress.Progress('server')
        )
        found = [
            (request.method, request.path.partition('?')[0])
            for request in self.proxy.requests[before:]
        ]
        image = f'/v2/images/{image_id}'
        self.assertEqual(
            [
                ('GET', '/v2/schemas/image'),
                ('GET', '/v2/images'),
                ('GET', image),
                ('PUT', f'{image}/file'),
                ('GET', image),
            ],
            found,
        )

    def test_what_fails_before_an_upload_is_raised_by_it(self):
        image_id = self.new_image()
        self.service.delete(image_id)
        self.service.prepare(image_id)
        self.assertRaises(
            exception.ImageNotFound, self.upload, image_id, b'y' * 1000
        )

    def test_pipe_of_unknown_size(self):
        data = base.random_bytes(3 * MiB)
        image_id = self.new_image()
        image = self.service.upload(
            image_id, base.Pipe(data), None, progress.Progress()
        )
        self.assertEqual(len(data), image.size)
        self.assertEqual(data, self.stored(image_id))

    def test_upload_begins_where_the_file_stands(self):
        data = base.random_bytes(2 * MiB)
        file = io.BytesIO(data)
        file.seek(MiB)
        image_id = self.new_image()
        self.fail_upload(fault_proxy.CutRequest(1000))
        self.service.upload(image_id, file, MiB, progress.Progress())
        self.assertEqual(data[MiB:], self.stored(image_id))

    def test_empty_image(self):
        self.assertEqual(0, self.upload(self.new_image(), b'').size)

    def test_no_data_for_an_active_image(self):
        image_id = self.new_image()
        self.upload(image_id, b'x' * 1000)
        self.assertRaises(
            exception.ImageConflict, self.upload, image_id, b'y' * 1000
        )
        self.assertEqual(b'x' * 1000, self.stored(image_id))

    def test_no_data_for_a_deleted_image(self):
        image_id = self.new_image()
        self.service.delete(image_id)
        self.assertRaises(
            exception.ImageNotFound, self.upload, image_id, b'y' * 1000
        )

    def test_source_that_ends_early_or_late_makes_no_image(self):
        image_id = self.new_image()
        for size in (4 * MiB, 2 * MiB):
            self.assertRaises(
                exception.SnapshotFailed,
                self.service.upload,
                image_id,
                io.BytesIO(bytes(3 * MiB)),
                size,
                progress.Progress(),
            )
            self.settle(image_id)

    def test_source_that_breaks_makes_no_image(self):
        class Broken(base.Pipe):
            def readinto(self, buffer):
                if self._data.tell() > MiB:
                    raise OSError(5, 'Input/output error')
                return super().readinto(buffer)

        image_id = self.new_image()
        error = self.assertRaises(
            exception.SnapshotFailed,
            self.service.upload,
            image_id,
            Broken(bytes(4 * MiB)),
            4 * MiB,
            progress.Progress(),
        )
        self.assertIn('Input/output error', str(error))
        # The proxy may not have seen the request before the source broke.
        self.settle(image_id)
        self.assertEqual(1, self.uploads())

    def test_cancelled_upload_makes_no_image(self):
        def cancel(progress):
            if progress.done >= 2 * MiB:
                watch.cancel('enough')

        watch = progress.Progress('server', cancel)
        image_id = self.new_image()
        self.assertRaises(
            exception.SnapshotCancelled,
            self.upload,
            image_id,
            bytes(16 * MiB),
            watch,
        )
        self.settle(image_id)

    def settle(self, image_id):
        """Glance puts the image back once it sees the broken connection.

        That may be before it has even begun to take the data.
        """
        calm = 0
        for _ in range(200):
            queued = self.direct().get(image_id).status == 'queued'
            calm = calm + 1 if queued else 0
            if calm == 10:
                break
            time.sleep(0.05)
        self.assert_left(image_id, 'queued')

    def test_glance_with_another_hash(self):
        directory = self.useFixture(fixtures.TempDir()).path
        extra = 'hashing_algorithm = sha256'
        with base.lab_glance.Glance(directory, extra=extra) as other:
            service = self.make_service(other.url)
            made = service.create(base.record())
            data = base.random_bytes(MiB)
            image = service.upload(
                made.id, io.BytesIO(data), None, progress.Progress()
            )
        self.assertEqual(
            ('sha256', hashlib.sha256(data).hexdigest()),
            (image.hash_algorithm, image.hash_value),
        )

    def test_under_eventlet(self):
        """Other green threads go on while an upload runs."""
        program = textwrap.dedent("""
            from nova_snap import concurrency
            concurrency.choose_backend('eventlet')
            import io, sys, threading, time
            from nova_snap import progress
            from tests.functional.image import base
            conf = base.make_conf(sys.argv[1], sys.argv[2])
            service = base.glance.GlanceImageService.from_conf(conf)
            ticks = []
            def tick():
                while True:
                    ticks.append(time.monotonic())
                    time.sleep(0.01)
            assert concurrency.is_eventlet()
            concurrency.start_thread('tick', tick)
            image = service.create(base.record())
            data = io.BytesIO(bytes(64 * base.MiB))
            before = len(ticks)
            image = service.upload(image.id, data, None, progress.Progress())
            service.delete(image.id)
            print(image.status, image.size, len(ticks) - before > 3)
        """)
        with tempfile.TemporaryDirectory() as directory:
            done = subprocess.run(
                [
                    *(sys.executable, '-c', program, directory),
                    self.glance.nova_snap_conf(),
                ],
                env=os.environ | {'NOVA_SNAP_CONCURRENCY_BACKEND': 'eventlet'},
                capture_output=True,
                text=True,
                check=False,
            )
        self.assertEqual(f'active {64 * MiB} True\n', done.stdout, done.stderr)


class ContentTest(base.GlanceTestCase):
    """What Glance 33 takes and refuses by its default inspection.

    It looks at the content when all of it is in the store, and leaves what
    it refuses there: only the record is looked at.
    """

    def raw_disk(self, table):
        directory = self.useFixture(fixtures.TempDir()).path
        path = os.path.join(directory, 'disk')
        with open(path, 'wb') as file:
            file.truncate(8 * MiB)
        subprocess.run(
            ['sfdisk', '-q', path],
            input=f'label: {table}\n,4M\n,\n'.encode(),
            check=True,
        )
        with open(path, 'rb') as file:
            return file.read()

    def test_raw_disk_with_gpt_is_accepted(self):
        disk = self.raw_disk('gpt')
        self.assertEqual(b'EFI PART', disk[512:520])
        image = self.upload(self.new_image(), disk)
        self.assertEqual('active', image.status)

    def test_raw_disk_with_mbr_is_accepted(self):
        disk = self.raw_disk('dos')
        self.assertEqual(b'\x55\xaa', disk[510:512])
        image = self.upload(self.new_image(), disk)
        self.assertEqual('active', image.status)

    def test_raw_disk_with_a_foreign_qcow2_header_is_refused(self):
        """Its own sentence arrives, and the record takes other data."""
        directory = self.useFixture(fixtures.TempDir()).path
        path = os.path.join(directory, 'evil')
        subprocess.run(
            [
                *('qemu-img', 'create', '-q', '-u', '-f', 'qcow2'),
                *('-F', 'raw', '-b', '/etc/passwd', path, '1M'),
            ],
            check=True,
        )
        with open(path, 'rb') as file:
            disk = file.read()
        image_id = self.new_image()
        error = self.assertRaises(
            exception.ImageRejected, self.upload, image_id, disk
        )
        self.assertIn('Image failed safety checks', str(error))
        self.assertNotIn('media type', str(error))
        self.assert_status(image_id, 'queued')

    def test_data_of_another_format_is_refused(self):
        image_id = self.new_image(disk_format='qcow2')
        error = self.assertRaises(
            exception.ImageRejected, self.upload, image_id, bytes(MiB)
        )
        self.assertIn('does not match', str(error))
        self.assert_status(image_id, 'queued')

    def test_larger_than_the_limit_of_glance(self):
        image_id = self.new_image()
        error = self.assertRaises(
            exception.ImageTooLarge,
            self.upload,
            image_id,
            bytes(base.SIZE_CAP + 8 * MiB),
        )
        self.assertIn('too large', str(error))
        self.assert_left(image_id, 'queued')
