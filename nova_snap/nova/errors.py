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

"""This project's errors as Nova's: what crosses the border to nova-compute.

nova-compute acts by the class: it takes InstanceNotFound for a server that is
being deleted, ImageNotFound for an image that somebody deleted, and everything
else for a failure, which it writes into the server's faults and its actions.
(ComputeManager._snapshot_instance in nova/compute/manager.py of Nova 34.)
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib

from nova import exception as nova_exception

from nova_snap import exception

_CLASSES: dict[type[BaseException], type[Exception]] = {
    exception.ImageNotFound: nova_exception.ImageNotFound,
    # Nothing but the deletion of its image cancels a snapshot here.
    exception.SnapshotCancelled: nova_exception.ImageNotFound,
    exception.ImageNotPermitted: nova_exception.ImageNotAuthorized,
    exception.ImageTooLarge: nova_exception.ImageQuotaExceeded,
    exception.ImageRejected: nova_exception.ImageBadRequest,
    exception.ImageServiceUnavailable: nova_exception.GlanceConnectionFailed,
    exception.HypervisorUnavailable: nova_exception.HypervisorUnavailable,
    exception.QuiesceNotPossible: nova_exception.InstanceQuiesceFailed,
    exception.NovaSnapError: nova_exception.InternalError,
}

#: Errors that say nothing of the server.
_ABOUT_IMAGES = (exception.ImageNotFound, exception.SnapshotCancelled)


@contextlib.contextmanager
def translated(
    instance_uuid: str,
    is_being_deleted: Callable[[], bool],
    check_quiesce: Callable[[], None],
) -> Iterator[None]:
    """Turn our errors into Nova's; Nova's own pass.

    :param is_being_deleted: whether the server is on its way out: then that
        is what is behind any error.
    :param check_quiesce: raises what Nova says of a server that can't be
        quiesced.
    :raises NovaException: always one of Nova's classes.
    """
    try:
        yield
    except exception.NovaSnapError as error:
        if not isinstance(error, _ABOUT_IMAGES) and is_being_deleted():
            raise nova_exception.InstanceNotFound(
                instance_id=instance_uuid
            ) from error
        if isinstance(error, exception.QuiesceNotPossible):
            check_quiesce()
        raise translate(error) from error


def translate(error: exception.NovaSnapError) -> Exception:
    """The error of Nova that one of ours stands for, with our sentence."""
    for category in type(error).__mro__:
        if category in _CLASSES:
            return _CLASSES[category](str(error))
    raise AssertionError('Every error of ours is a NovaSnapError.')
