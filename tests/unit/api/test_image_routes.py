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
"""The image routes over a real directory of images."""

import hashlib
import io
from typing import Any
import uuid

from nova_snap import progress as progress_lib
from nova_snap.api import app
from nova_snap.api import context as context_lib
from nova_snap.api import request as request_lib
from nova_snap.api.handlers import images as images_handler
from nova_snap.image import api as image_api
from nova_snap.image import filesystem
from tests.unit.api import base

DATA = bytes(range(256)) * 4096
IMAGES = '/image/v2/images'


def digest(data: bytes) -> str:
    """Return what stands for data in the message of a failure."""
    return hashlib.sha256(data).hexdigest()


DIGEST = digest(DATA)


class ImagesTestCase(base.ApiTestCase):
    """Images of two projects, and one of none."""

    def setUp(self) -> None:
        super().setUp()
        self.old = self.image('old', owner=base.PROJECT)
        self.plain = self.image('plain, 1')
        self.foreign = self.image('foreign', owner='b')
        self.queued = self.images.create(
            image_api.Image(str(uuid.uuid4()), 'queued', 'queued')
        ).id

    def image(self, name: str, **fields: Any) -> str:
        """Make an active image; return its id."""
        record = image_api.Image(
            str(uuid.uuid4()), name, 'queued', 'raw', 'bare', **fields
        )
        self.images.create(record)
        data = io.BytesIO(DATA)
        progress = progress_lib.Progress(name)
        self.images.upload(record.id, data, len(DATA), progress)
        return record.id

    def names(self, query: str = '') -> set[str]:
        """Return the names of the images that a query finds."""
        answer = self.get(f'{IMAGES}?{query}')
        self.assertEqual(200, answer.status_int, answer.text)
        return {image['name'] for image in answer.json['images']}


class ImageRoutesTest(ImagesTestCase):
    """An administrator without Keystone."""

    def test_below_the_compute_api(self) -> None:
        """Without a catalog, novaclient looks for all at one URL."""
        for path in ('/v2/images', f'/v2/images/{self.old}'):
            self.assertEqual(
                self.get(f'/image{path}').json, self.get(f'/v2.1{path}').json
            )

    def test_versions(self) -> None:
        for path in ('/image', '/image/'):
            answer = self.get(path)
            self.assertEqual(300, answer.status_int)
            (version,) = answer.json['versions']
            self.assertEqual('CURRENT', version['status'])
            self.assertEqual(
                'http://localhost/image/v2/', version['links'][0]['href']
            )

    def test_schema(self) -> None:
        """It names every field that an image has."""
        schema = self.get('/image/v2/schemas/image').json
        image = self.get(f'{IMAGES}/{self.old}').json
        self.assertEqual(set(image), set(schema['properties']))

    def test_filters(self) -> None:
        everything = {'old', 'plain, 1', 'foreign', 'queued'}
        for query, expected in (
            ('', everything),
            ('name=old', {'old'}),
            ('name=in:"plain,%201",old', {'old', 'plain, 1'}),
            (f'id=in:{self.old},{self.queued}', {'old', 'queued'}),
            (f'id=in:{uuid.uuid4()}', set()),
            ('status=active', everything - {'queued'}),
            ('visibility=private', everything),
            ('visibility=all', everything),
            ('os_hidden=True', set()),
            ('os_hidden=false', everything),
            ('protected=False', everything),
            ('owner=b', {'foreign'}),
            ('tag=x', set()),
            ('size_min=1', everything - {'queued'}),
            ('size_max=1', set()),
            ('colour=red', set()),
        ):
            self.assertEqual(expected, self.names(query), query)

    def test_times(self) -> None:
        now = '2020-01-02T03:04:05Z'
        everything = {'old', 'plain, 1', 'foreign', 'queued'}
        self.patch(filesystem, '_now', lambda: now)
        self.image('ancient')
        for query, expected in (
            (f'created_at={now}', {'ancient'}),
            (f'updated_at=eq:{now}', {'ancient'}),
            (f'created_at=neq:{now}', everything),
            (f'created_at=lte:{now}', {'ancient'}),
            (f'created_at=lt:{now}', set()),
            ('created_at=lt:2020-01-02T04:04:06%2B01:00', {'ancient'}),
            (f'created_at=gt:{now}', everything),
            (f'created_at=gte:{now}', everything | {'ancient'}),
        ):
            self.assertEqual(expected, self.names(query), query)

    def test_what_is_no_filter(self) -> None:
        for query in (
            'created_at=x',
            'updated_at=gt:',
            'created_at=after:2020-01-02T03:04:05Z',
            'limit=x',
            'marker=x',
            'sort=colour',
            'sort=name:up',
            'sort_key=name&sort_dir=up',
            'size_min=x',
            'name=in:' + 'x' * 200_000,
        ):
            answer = self.get(f'{IMAGES}?{query}')
            self.assertEqual(400, answer.status_int, query)

    def test_pages_and_order(self) -> None:
        """Following "next" leads to all images, once each."""
        url, names = f'{IMAGES}?limit=1&sort=name:asc', []
        while True:
            page = self.get(url).json
            names += [image['name'] for image in page['images']]
            if 'next' not in page:
                break
            self.assertEqual('/v2/images?', page['next'][:11])
            url = '/image' + page['next']
        self.assertEqual(['foreign', 'old', 'plain, 1', 'queued'], names)
        answer = self.get(f'{IMAGES}?sort_key=size&sort_key=name&limit=3')
        self.assertEqual(
            ['plain, 1', 'old', 'foreign'],
            [image['name'] for image in answer.json['images']],
        )

    def test_image(self) -> None:
        image = self.get(f'{IMAGES}/{self.plain}').json
        self.assertEqual(
            ('active', len(DATA), base.PROJECT, 'sha512'),
            tuple(
                image[name]
                for name in ('status', 'size', 'owner', 'os_hash_algo')
            ),
        )

    def test_data(self) -> None:
        path = f'{IMAGES}/{self.old}/file'
        answer = self.get(path)
        self.assertEqual(200, answer.status_int)
        self.assertEqual(DIGEST, digest(answer.body))
        self.assertEqual(str(len(DATA)), answer.headers['Content-Length'])
        self.assertEqual('bytes', answer.headers['Accept-Ranges'])

    def test_ranges(self) -> None:
        path, size = f'{IMAGES}/{self.old}/file', len(DATA)
        for wanted, first, end in (
            ('0-0', 0, 1),
            ('300-599', 300, 600),
            (f'{size - 5}-', size - 5, size),
            ('-7', size - 7, size),
            (f'5-{size * 9}', 5, size),
        ):
            answer = self.get(path, Range=f'bytes={wanted}')
            self.assertEqual(206, answer.status_int, wanted)
            self.assertEqual(
                digest(DATA[first:end]), digest(answer.body), wanted
            )
            self.assertEqual(
                f'bytes {first}-{end - 1}/{size}',
                answer.headers['Content-Range'],
            )
        answer = self.get(path, Range=f'bytes={size}-')
        self.assertEqual(416, answer.status_int)

    def test_data_is_not_read_into_memory(self) -> None:
        """It comes in parts, and goes on when the image is deleted."""
        path = f'{IMAGES}/{self.old}/file'
        request = request_lib.Request.blank(path)
        _status, _headers, parts = request.call_application(self.application)
        following = iter(parts)
        first = next(following)
        self.assertLess(len(first), len(DATA))
        self.assertEqual(204, self.call('DELETE', path[:-5]).status_int)
        self.assertEqual(DIGEST, digest(first + b''.join(following)))

    def test_no_data_yet(self) -> None:
        answer = self.get(f'{IMAGES}/{self.queued}/file')
        self.assertEqual((204, b''), (answer.status_int, answer.body))

    def test_no_image(self) -> None:
        for image_id in (str(uuid.uuid4()), 'old', '..'):
            for method, path in (
                ('GET', image_id),
                ('GET', f'{image_id}/file'),
                ('DELETE', image_id),
            ):
                self.assert_error(
                    self.call(method, f'{IMAGES}/{path}'),
                    404,
                    'itemNotFound',
                    f'No image found with ID {image_id}',
                )

    def test_delete(self) -> None:
        path = f'{IMAGES}/{self.old}'
        self.assertEqual(204, self.call('DELETE', path).status_int)
        self.assertEqual(404, self.get(path).status_int)
        self.assertEqual(404, self.call('DELETE', path).status_int)

    def test_protected_image(self) -> None:
        image_id = self.image('kept', protected=True)
        self.assert_error(
            self.call('DELETE', f'{IMAGES}/{image_id}'),
            403,
            'forbidden',
            'is protected',
        )

    def test_host_with_glance(self) -> None:
        """The routes are not there."""
        self.patch(images_handler.image_api, 'LocalImageService', type(None))
        answer = self.get(f'{IMAGES}/{self.old}')
        self.assert_error(answer, 404, 'itemNotFound', 'of its own')


class ProjectImagesTest(ImagesTestCase):
    """A user of one project, with Keystone."""

    roles: tuple[str, ...] = ('member', 'reader')

    def authentication(self) -> app.Authenticate:
        return lambda _request: context_lib.Context(
            'req-1',
            user_id='u',
            project_id='b',
            roles=self.roles,
            access='what Keystone knows',
        )

    def test_own_and_public_images_only(self) -> None:
        self.image('shared', owner='c', visibility='public')
        self.assertEqual({'foreign', 'shared'}, self.names())
        for method, path in (
            ('GET', self.old),
            ('GET', f'{self.old}/file'),
            ('DELETE', self.old),
        ):
            answer = self.call(method, f'{IMAGES}/{path}')
            self.assertEqual(404, answer.status_int, path)

    def test_deleting(self) -> None:
        shared = self.image('shared', owner='c', visibility='public')
        self.assert_error(
            self.call('DELETE', f'{IMAGES}/{shared}'),
            403,
            'forbidden',
            'not permitted to delete',
        )
        own = f'{IMAGES}/{self.foreign}'
        self.roles = ('reader',)
        self.assertEqual(200, self.get(own).status_int)
        self.assertEqual(403, self.call('DELETE', own).status_int)
        self.roles = ()
        self.assertEqual(403, self.get(own).status_int)
        self.roles = ('member', 'reader')
        self.assertEqual(204, self.call('DELETE', own).status_int)
