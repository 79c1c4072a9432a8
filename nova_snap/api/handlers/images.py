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
"""Images of the embedded store, as Glance shows them.

Where Glance is the image service, these calls do not exist: clients ask
Glance itself.  https://docs.openstack.org/api-ref/image/v2/
"""

from typing import Any

import webob

from nova_snap import exception
from nova_snap.api import errors
from nova_snap.api import file_body
from nova_snap.api import image_query
from nova_snap.api import paging
from nova_snap.api import policies
from nova_snap.api import request as request_lib
from nova_snap.api import responses
from nova_snap.api.views import image as image_view
from nova_snap.image import api as image_api

#: Images of a page if a request names no number, as in Glance.
DEFAULT_LIMIT = 25

#: Images that belong to a project, and that all may see.
_SHARED = ('public', 'community')


def versions(request: request_lib.Request) -> webob.Response:
    """List the versions; there is one."""
    version = {
        'id': image_view.VERSION,
        'status': 'CURRENT',
        'links': [{'rel': 'self', 'href': request.link('image', 'v2', '')}],
    }
    return responses.json({'versions': [version]}, status=300)


def schema(request: request_lib.Request) -> webob.Response:
    """Show the schema of images."""
    _service(request)
    return responses.json(image_view.schema())


def index(request: request_lib.Request) -> webob.Response:
    """List images that the user may see."""
    request.require(policies.IMAGES % 'get_images')
    page = paging.of_request(request, DEFAULT_LIMIT)
    seen = (
        image_view.shown(image, _owner(request, image))
        for image in _service(request).list()
        if _may_see(request, image)
    )
    images = page.cut(
        image_query.ordered(request, seen),
        lambda image: str(image['id']),
        image_query.wanted(request),
    )
    document: dict[str, Any] = {
        'images': images,
        'first': '/v2/images',
        'schema': '/v2/schemas/images',
    }
    if images and len(images) == page.limit:
        query = paging.next_query(request, images[-1]['id'])
        document['next'] = f'/v2/images?{query}'
    return responses.json(document)


def show(request: request_lib.Request, image_id: str) -> webob.Response:
    """Show an image.

    :raises NotFound: there is none that the user may see.
    """
    request.require(policies.IMAGES % 'get_image')
    image = _image(request, image_id)
    return responses.json(image_view.shown(image, _owner(request, image)))


def data(request: request_lib.Request, image_id: str) -> webob.Response:
    """Send the data of an image, or a range of its bytes.

    It is read from its file while it is sent; 204 if there is none yet.

    :raises NotFound: there is no image that the user may see.
    """
    request.require(policies.IMAGES % 'download_image')
    image = _image(request, image_id)
    file = _service(request).opened(image.id)
    if file is None:
        return responses.empty(204)
    body = file_body.FileBody(file)
    answer = webob.Response(
        content_type='application/octet-stream',
        app_iter=body,
        conditional_response=True,
        accept_ranges='bytes',
    )
    answer.content_length = body.size
    return answer


def delete(request: request_lib.Request, image_id: str) -> webob.Response:
    """Delete an image.

    :raises NotFound: there is none that the user may see.
    :raises Forbidden: it is protected, or another project's.
    """
    image = _image(request, image_id)
    if not request.allows(
        policies.IMAGES % 'delete_image', _owner(request, image)
    ):
        raise errors.Forbidden(
            f'You are not permitted to delete image {image_id}.'
        )
    if image.protected:
        raise errors.Forbidden(
            f'Image {image_id} is protected and cannot be deleted.'
        )
    _service(request).delete(image_id)
    return responses.empty(204)


def _service(request: request_lib.Request) -> image_api.LocalImageService:
    """Return the embedded store.

    :raises NotFound: another service has the images.
    """
    service = request.services.images_of(request.context)
    if not isinstance(service, image_api.LocalImageService):
        raise errors.NotFound(
            'The images of this host are in an image service of its own.'
        )
    return service


def _image(request: request_lib.Request, image_id: str) -> image_api.Image:
    not_found = errors.NotFound(f'No image found with ID {image_id}')
    try:
        image = _service(request).get(image_id)
    except exception.ImageNotFound:
        raise not_found from None
    if not _may_see(request, image):
        raise not_found
    return image


def _may_see(request: request_lib.Request, image: image_api.Image) -> bool:
    context = request.context
    return (
        context.is_admin
        or image.visibility in _SHARED
        or _owner(request, image) == context.project_id
    )


def _owner(request: request_lib.Request, image: image_api.Image) -> str:
    """Return the project of an image, as that of a server without one."""
    return image.owner or request.services.options.default_project_id
