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

"""What crosses the border between Nova and the core."""

from collections.abc import Callable
from typing import Any

from nova import exception as nova_exception

from nova_snap import exception
from nova_snap.nova import errors
from nova_snap.nova import request
from nova_snap.objects import instance as instance_lib
from nova_snap.objects import task_state
from tests.nova import base

PENDING = task_state.TaskState.IMAGE_PENDING_UPLOAD
UPLOADING = task_state.TaskState.IMAGE_UPLOADING


class ErrorsTest(base.NovaTestCase):
    """Our errors are Nova's outside."""

    def outside(
        self,
        error: Exception,
        deleted: bool = False,
        check_quiesce: Callable[[], None] = lambda: None,
    ) -> Exception:
        """Return the error that an error is translated to."""
        try:
            with errors.translated('uuid', lambda: deleted, check_quiesce):
                raise error
        except Exception as found:
            return found

    def check(self, expected: type[Exception], error: Exception) -> None:
        """Check that an error gets this class, and keeps its message."""
        found = self.outside(error)
        self.assertIs(expected, type(found))
        self.assertEqual(str(error), str(found))

    def test_image(self) -> None:
        for expected, error in (
            (
                nova_exception.ImageNotFound,
                exception.ImageNotFound(image_id='i'),
            ),
            (
                nova_exception.ImageNotFound,
                exception.SnapshotCancelled(server='s', reason='deleted.'),
            ),
            (
                nova_exception.ImageNotAuthorized,
                exception.ImageNotPermitted(reason='no'),
            ),
            (
                nova_exception.ImageQuotaExceeded,
                exception.ImageTooLarge(image_id='i', reason='quota'),
            ),
            (
                nova_exception.GlanceConnectionFailed,
                exception.ImageServiceUnavailable(endpoint='e', reason='r'),
            ),
        ):
            self.check(expected, error)

    def test_others(self) -> None:
        for expected, error in (
            (
                nova_exception.HypervisorUnavailable,
                exception.HypervisorUnavailable(uri='u', reason='r'),
            ),
            (
                nova_exception.InternalError,
                exception.BlockJobFailed(disk='d', server='s', reason='r'),
            ),
        ):
            self.check(expected, error)

    def test_options_are_named_as_in_nova_conf(self) -> None:
        error = exception.NotEnoughSpace(path='p', free_mib=1, needed_mib=2)
        self.assertIn('[snapshot] reserved_space_mb', str(error))
        found = str(self.outside(error))
        self.assertIn('[nova_snap] reserved_space_mb', found)

    def test_no_error_of_ours_passes(self) -> None:
        for kind in _all_below(exception.NovaSnapError):
            found = self.outside(kind('a sentence'))
            self.assertIsInstance(found, nova_exception.NovaException, kind)

    def test_server_that_is_being_deleted(self) -> None:
        gone = exception.GuestGone(server='s', action='a')
        found = self.outside(gone, deleted=True)
        self.assertIsInstance(found, nova_exception.InstanceNotFound)
        self.check(nova_exception.InternalError, gone)

    def test_image_that_was_deleted_comes_before_that(self) -> None:
        found = self.outside(
            exception.ImageNotFound(image_id='i'), deleted=True
        )
        self.assertIsInstance(found, nova_exception.ImageNotFound)

    def test_quiesce(self) -> None:
        error = exception.QuiesceNotPossible(server='s', reason='r')
        self.check(nova_exception.InstanceQuiesceFailed, error)

        def refuse() -> None:
            raise nova_exception.QemuGuestAgentNotEnabled

        found = self.outside(error, check_quiesce=refuse)
        self.assertIsInstance(found, nova_exception.QemuGuestAgentNotEnabled)

    def test_errors_of_nova_pass(self) -> None:
        error = nova_exception.UnexpectedDeletingTaskStateError(
            instance_uuid='u', expected='e', actual='a'
        )
        self.assertIs(error, self.outside(error))


class TaskStatesTest(base.NovaTestCase):
    """What nova-compute is told, and expects before it."""

    def setUp(self) -> None:
        super().setUp()
        self.updates: list[dict[str, Any]] = []
        self.states = request.TaskStates(
            lambda **update: self.updates.append(update)
        )

    def go(self, *states: task_state.TaskState) -> list[tuple[str, Any]]:
        """Go through states; each with what was expected."""
        for state in states:
            self.states(state)
        return [
            (update['task_state'], update.get('expected_state'))
            for update in self.updates
        ]

    def test_snapshot(self) -> None:
        self.assertEqual(
            [
                ('image_pending_upload', None),
                ('image_uploading', 'image_pending_upload'),
            ],
            self.go(PENDING, UPLOADING),
        )

    def test_after_a_direct_one_was_not_possible(self) -> None:
        self.assertEqual(
            [
                ('image_pending_upload', None),
                ('image_uploading', 'image_pending_upload'),
                ('image_pending_upload', 'image_uploading'),
                ('image_uploading', 'image_pending_upload'),
            ],
            self.go(PENDING, UPLOADING, PENDING, UPLOADING),
        )


class RequestTest(base.NovaTestCase):
    """Nova's objects as ours."""

    def test_instance(self) -> None:
        ours = request.instance_of(
            self.instance(), instance_lib.DiskChoice(is_every=True)
        )
        self.assertEqual('web é漢', ours.name)
        self.assertEqual(('p', 'u'), (ours.project_id, ours.user_id))
        self.assertTrue(ours.disks.is_every)
        assert ours.flavor
        self.assertEqual(3, ours.flavor.root_gb)

    def test_quiesce_is_required(self) -> None:
        for value, expected in ((None, 'False'), ('yes', 'True')):
            metadata = {'image_os_require_quiesce': value} if value else {}
            instance = self.instance(system_metadata=metadata)
            self.assertEqual(
                {'os_require_quiesce': expected},
                request.image_properties(instance),
            )


def _all_below(kind: type[Exception]) -> list[type[Exception]]:
    below = kind.__subclasses__()
    return [*below, *(one for k in below for one in _all_below(k))]
