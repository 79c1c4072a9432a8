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

"""Translation of this project's errors to Nova's.

nova-compute acts by the class of an error.  InstanceNotFound means that the
server is being deleted, ImageNotFound that somebody deleted the image; any
other error is a failure, which is written to the server's faults and actions.
(ComputeManager._snapshot_instance in nova/compute/manager.py of Nova 34.)
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib

from nova import exception as nova_exception

from nova_snap import exception
from nova_snap.conf import nova as nova_conf

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

#: Errors that do not depend on the server's state.
_ABOUT_IMAGES = (exception.ImageNotFound, exception.SnapshotCancelled)


@contextlib.contextmanager
def translated(
    instance_uuid: str,
    is_being_deleted: Callable[[], bool],
    check_quiesce: Callable[[], None],
) -> Iterator[None]:
    """Translate our errors to Nova's; errors of Nova are raised unchanged.

    :param is_being_deleted: returns True if the server is being deleted,
        which is then taken for the cause of any error.
    :param check_quiesce: raises Nova's own error if the server can't be
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
    """Return Nova's error for one of ours, with its message.

    Options that the message names have another group in nova.conf.
    """
    message = str(error).replace('[snapshot]', f'[{nova_conf.GROUP}]')
    for category in type(error).__mro__:
        if category in _CLASSES:
            return _CLASSES[category](message)
    raise AssertionError('Every error of ours is a NovaSnapError.')
