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


"""RBD images in Ceph: the only module that imports Ceph's bindings.

Open this file for a request to Ceph.  Every request has a time limit: librados
has none of its own, and would wait for ever for a monitor or an OSD that is
gone.  What the requests are for is in ``extraction/rbd_direct.py``.
"""

import base64
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import errno
import functools
import json
import os
from types import ModuleType
from typing import Any
from typing import TypeVar
import uuid

from nova_snap import concurrency
from nova_snap import distribution
from nova_snap import exception
from nova_snap import waiting
from nova_snap.virt.storage import disk_source

T = TypeVar('T')

#: Seconds in which a monitor, the manager and an OSD have to answer.
TIMEOUT = 20

#: Seconds in which the manager, or a client that was killed, lets an image go;
#: Ceph takes 30 for granted after the last sign of a client.
BUSY_TIMEOUT = 40

#: The snapshot of an image by which Glance's rbd store reads the image.
GLANCE_SNAPSHOT = 'snap'

#: User where neither libvirt's XML nor the configuration names one, as in
#: librbd.
_DEFAULT_USER = 'admin'


@functools.cache
def _modules() -> tuple[ModuleType, ...]:
    """Return the modules ``rados`` and ``rbd``.

    :raises CephError: they are not installed.
    """
    try:
        return distribution.load('rados', 'rbd')
    except ImportError as error:
        raise exception.CephError(
            action='load its libraries',
            reason='install python3-rados and python3-rbd.',
        ) from error


def is_installed() -> bool:
    """Return True if Ceph's bindings are there."""
    try:
        _modules()
    except exception.CephError:
        return False
    return True


class Ceph:
    """A connection to a cluster; one thread uses it.

    An image is named by its :class:`~.disk_source.RbdLocation`.  Every method
    raises CephError, and none waits longer than its requests may take.
    """

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self._rados, self._rbd = _modules()
        # A method, but no property: a property can't be replaced by tests.
        self._images = self._rbd.RBD()

    def fsid(self) -> str:
        """Return the id of the cluster."""
        return str(self._call('name itself', self._cluster.get_fsid))

    def require_writable(self, pool: str) -> None:
        """Raise CephError unless this user may write to a pool.

        The request removes an object that does not exist.
        """

        def probe() -> None:
            with (
                self._cluster.open_ioctx(pool) as context,
                contextlib.suppress(self._rados.ObjectNotFound),
            ):
                context.remove_object(f'nova_snap-{uuid.uuid4()}')

        self._call(f'write to pool {pool}', probe)

    def create_snapshot(
        self, image: disk_source.RbdLocation, snapshot: str
    ) -> None:
        """Take a snapshot of an image."""
        self._with(
            f'take snapshot {snapshot}',
            image,
            lambda opened: opened.create_snap(snapshot),
        )

    def offer(self, image: disk_source.RbdLocation) -> None:
        """Take the snapshot by which Glance and Nova read an image.

        They expect it to be protected.
        """
        self.create_snapshot(image, GLANCE_SNAPSHOT)
        self._with(
            f'protect snapshot {GLANCE_SNAPSHOT}',
            image,
            lambda opened: opened.protect_snap(GLANCE_SNAPSHOT),
        )

    def remove_snapshot(
        self, image: disk_source.RbdLocation, snapshot: str
    ) -> None:
        """Remove a snapshot, if it and its image exist.

        Ceph keeps it in its trash while it has clones, and no longer.
        """

        def remove(opened: Any) -> None:
            if opened.is_protected_snap(snapshot):
                opened.unprotect_snap(snapshot)
            opened.remove_snap(snapshot)

        with contextlib.suppress(exception.CephImageNotFound):
            self._with(f'remove snapshot {snapshot}', image, remove)

    def read(
        self, image: disk_source.RbdLocation, snapshot: str, length: int
    ) -> bytes:
        """Return at most the first ``length`` bytes of a snapshot."""

        def read(opened: Any) -> bytes:
            return bytes(opened.read(0, min(length, opened.size())))

        return self._with(
            f'read snapshot {snapshot}', image, read, snapshot=snapshot
        )

    def size(self, image: disk_source.RbdLocation) -> int:
        """Return the size of an image, in bytes."""
        return self._with(
            'find the size', image, lambda opened: int(opened.size()), True
        )

    def mark_data(
        self,
        image: disk_source.RbdLocation,
        start: int,
        length: int,
        mark: Callable[[int, int], None],
    ) -> None:
        """Name all bytes of a part of an image that may not be zeros.

        What a clone has of its parents counts.  Each object is asked for: the
        object map would be quicker, and may be wrong for clones (librbd
        before 17, https://tracker.ceph.com/issues/53784).

        :param mark: called with start and length, in any order, from another
            thread under eventlet.
        """

        def iterate(opened: Any) -> None:
            # What is said to be discarded is marked, too: librbd may say so
            # of an object that has data again in a parent.
            opened.diff_iterate(
                start,
                length,
                None,
                lambda start, length, _exists: mark(start, length),
                include_parent=True,
                whole_object=False,
            )

        self._with('find the data', image, iterate, is_read_only=True)

    def clone(
        self,
        parent: disk_source.RbdLocation,
        snapshot: str,
        clone: disk_source.RbdLocation,
    ) -> None:
        """Clone a snapshot; the parent needs no protection (clone v2)."""

        def make() -> None:
            with (
                self._cluster.open_ioctx(parent.pool) as source,
                self._cluster.open_ioctx(clone.pool) as target,
            ):
                with self._rbd.Image(
                    source, parent.image, snapshot, read_only=True
                ) as opened:
                    features = self._clone_features(opened.features())
                self._images.clone(
                    source,
                    parent.image,
                    snapshot,
                    target,
                    clone.image,
                    features=features,
                )

        self._call(f'clone {_name(parent)} to {_name(clone)}', make)

    def remove_image(self, image: disk_source.RbdLocation) -> None:
        """Remove an image made for Glance, if it exists, with its snapshot."""
        if self.has_parent(image):
            # A user of Ceph who may ask for no task has none.
            with contextlib.suppress(exception.CephError):
                self.cancel_flatten(image)
        self.remove_snapshot(image, GLANCE_SNAPSHOT)

        def remove() -> None:
            with self._cluster.open_ioctx(image.pool) as context:
                self._images.remove(context, image.image)

        with contextlib.suppress(exception.CephImageNotFound):
            for _poll in waiting.polls(BUSY_TIMEOUT):
                try:
                    return self._call(f'remove {_name(image)}', remove)
                except exception.CephImageBusy as error:
                    busy = error
            raise busy

    def has_parent(self, image: disk_source.RbdLocation) -> bool:
        """Return True if an image exists, and has data of another."""
        return self.parent_pool(image) is not None

    def parent_pool(self, image: disk_source.RbdLocation) -> str | None:
        """Return the pool of the image that an image is a clone of."""

        def find(opened: Any) -> str:
            pool, _image, _snapshot = opened.parent_info()
            return str(pool)

        try:
            return self._with('find its parent', image, find, True)
        except exception.CephImageNotFound:
            return None

    def flatten(
        self,
        image: disk_source.RbdLocation,
        report: Callable[[float], None] = lambda _share: None,
    ) -> None:
        """Copy the data of the parent to an image, through this host.

        :param report: gets the share that is done; an error that it raises
            ends the copying.
        """
        errors: list[Exception] = []

        def on_progress(done: int, total: int) -> int:
            try:
                report(done / (total or 1))
            except Exception as error:
                errors.append(error)
                return -errno.ECANCELED
            return 0

        try:
            self._with(
                'flatten', image, lambda opened: opened.flatten(on_progress)
            )
        except exception.CephError:
            if errors:
                raise errors[0] from None
            raise

    def start_flatten(self, image: disk_source.RbdLocation) -> None:
        """Have Ceph's manager flatten an image, and do not wait.

        The manager keeps the task, also through a restart; asked again, it
        keeps the one that there is.

        :raises CephError: it does not take the task.
        """
        self._manager(
            f'have its manager flatten {_name(image)}',
            {
                'prefix': 'rbd task add flatten',
                'image_spec': _name(image),
            },
        )

    def flatten_progress(self, image: disk_source.RbdLocation) -> float | None:
        """Return the share that the manager has done; None without a task."""
        for task in self._tasks(image):
            return float(task.get('progress') or 0)
        return None

    def cancel_flatten(self, image: disk_source.RbdLocation) -> None:
        """Have the manager give up flattening an image, if it does that."""
        for task in self._tasks(image):
            self._manager(
                f'have its manager leave {_name(image)}',
                {'prefix': 'rbd task cancel', 'task_id': task['id']},
            )

    def _tasks(
        self, image: disk_source.RbdLocation
    ) -> Iterator[dict[str, Any]]:
        found = self._manager(
            f'list what its manager does with {_name(image)}',
            {'prefix': 'rbd task list'},
        )
        for task in found:
            refs = task.get('refs', {})
            if (
                refs.get('action') == 'flatten'
                and refs.get('pool_name') == image.pool
                and refs.get('image_name') == image.image
            ):
                yield task

    def _manager(self, action: str, command: dict[str, str]) -> Any:
        """Ask the manager something; return its answer."""

        def ask() -> Any:
            code, output, text = self._cluster.mgr_command(
                json.dumps({**command, 'format': 'json'}),
                b'',
                timeout=TIMEOUT,
            )
            if code != 0:
                raise self._rados.Error(text or os.strerror(abs(code)))
            return json.loads(output) if output.strip() else None

        return self._call(action, ask)

    def _clone_features(self, found: int) -> int:
        """Return the features for a clone of an image with these features.

        Without deep-flatten a snapshot would keep its parent when its image
        is flattened.  Journaling, for mirrors, is the pool's business.
        """
        rbd = self._rbd
        kept: int = found & (
            rbd.RBD_FEATURE_EXCLUSIVE_LOCK
            | rbd.RBD_FEATURE_OBJECT_MAP
            | rbd.RBD_FEATURE_FAST_DIFF
        )
        return int(
            kept | rbd.RBD_FEATURE_LAYERING | rbd.RBD_FEATURE_DEEP_FLATTEN
        )

    def _with(
        self,
        action: str,
        image: disk_source.RbdLocation,
        function: Callable[[Any], T],
        is_read_only: bool = False,
        snapshot: str | None = None,
    ) -> T:
        """Call a function with an opened image."""

        def run() -> T:
            with (
                self._cluster.open_ioctx(image.pool) as context,
                self._rbd.Image(
                    context,
                    image.image,
                    snapshot,
                    read_only=is_read_only or snapshot is not None,
                ) as opened,
            ):
                return function(opened)

        return self._call(f'{action} of {_name(image)}', run)

    def _call(self, action: str, function: Callable[[], T]) -> T:
        with _translated(action):
            return concurrency.run_blocking(function)


@contextlib.contextmanager
def connected(
    location: disk_source.RbdLocation, key: bytes | None
) -> Iterator[Ceph]:
    """Connect to the cluster of an image, for the length of a block.

    :param key: of the user, as libvirt's secret has it; None if the cluster
        asks for none, or ceph.conf names a file with it.
    :raises CephError: there is no connection.
    """
    rados, _rbd = _modules()
    with _translated('connect'):
        cluster = rados.Rados(
            rados_id=location.user or _DEFAULT_USER,
            conffile=location.conf,
            conf=_settings(location, key),
        )
        concurrency.run_blocking(cluster.connect)
    try:
        yield Ceph(cluster)
    finally:
        concurrency.run_blocking(cluster.shutdown)


def _settings(
    location: disk_source.RbdLocation, key: bytes | None
) -> dict[str, str]:
    """Return the settings of a client besides those of its ceph.conf."""
    settings = {
        'client_mount_timeout': str(TIMEOUT),
        'rados_mon_op_timeout': str(TIMEOUT),
        'rados_osd_op_timeout': str(TIMEOUT),
        # Its commands show the key.
        'admin_socket': '',
        # Ceph chooses the first version as long as clients before Mimic may
        # connect; that one needs protection, and is no trash's business.
        'rbd_default_clone_format': '2',
    }
    if location.hosts:
        settings['mon_host'] = ','.join(
            f'[{host}]:{port}' if ':' in host else f'{host}:{port}'
            for host, port in location.hosts
        )
    if key is not None:
        settings['key'] = base64.b64encode(key).decode()
    elif location.conf is None:
        # As libvirt does without <auth>.
        settings['auth_client_required'] = 'none'
    return settings


@contextlib.contextmanager
def _translated(action: str) -> Iterator[None]:
    """Translate the errors of Ceph's bindings."""
    rados, rbd = _modules()
    try:
        yield
    except rbd.ImageNotFound as error:
        raise exception.CephImageNotFound(
            action=action, reason=error
        ) from error
    except rbd.ImageBusy as error:
        raise exception.CephImageBusy(action=action, reason=error) from error
    except (rados.Error, rbd.Error) as error:
        raise exception.CephError(action=action, reason=error) from error


def _name(image: disk_source.RbdLocation) -> str:
    return f'{image.pool}/{image.image}'
