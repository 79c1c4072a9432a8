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

"""The progress of a server, with a conductor that is slow, or fails."""

import threading
from typing import Any

from nova.objects import instance as nova_instance

from nova_snap import progress as progress_lib
from nova_snap.nova import server_progress
from tests.nova import base
from tests.unit.virt.libvirt import samples

HALF = (progress_lib.Stage.UPLOADING, 5, 10)


class FollowedTest(base.NovaTestCase):
    """Nova's object is real; what saves it stands in for the conductor."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(server_progress, 'INTERVAL', 0.01)
        self.written: list[int] = []
        self.wrote = threading.Event()
        self.save: Any = self._save
        self.loads = 0

        def load(_context: Any, uuid: str, expected_attrs: Any) -> Any:
            self.loads += 1
            instance = self.instance(uuid=uuid, progress=-1)
            self.patch(instance, 'save', lambda: self.save(instance))
            return instance

        self.patch(nova_instance.Instance, 'get_by_uuid', load)

    def _save(self, instance: Any) -> None:
        self.written.append(instance.progress)
        self.wrote.set()

    def test_written_and_taken_back(self) -> None:
        with server_progress.followed(samples.UUID) as progress:
            progress.report(*HALF)
            self.assertTrue(self.wrote.wait(30))
        self.assertEqual([50, 0], self.written)

    def test_taken_back_when_all_is_read(self) -> None:
        """Glance's part, and undoing, need not be waited for."""
        with server_progress.followed(samples.UUID) as progress:
            progress.report(*HALF)
            self.assertTrue(self.wrote.wait(30))
            self.wrote.clear()
            progress.report(progress_lib.Stage.UPLOADING, 10, 10)
            self.assertTrue(self.wrote.wait(30))
            self.assertEqual(0, self.written[-1])

    def test_loaded_once(self) -> None:
        with server_progress.followed(samples.UUID) as progress:
            for done in (1, 2):
                progress.report(progress_lib.Stage.COPYING, done, 10)
                self.assertTrue(self.wrote.wait(30))
                self.wrote.clear()
        self.assertEqual([10, 20, 0], self.written)
        self.assertEqual(1, self.loads)

    def test_short_snapshot_writes_nothing(self) -> None:
        self.patch(server_progress, 'INTERVAL', 3600)
        with server_progress.followed(samples.UUID) as progress:
            progress.report(*HALF)
        self.assertEqual([], self.written)

    def test_conductor_that_does_not_answer_delays_nothing(self) -> None:
        self.patch(server_progress, 'END_TIMEOUT', 0.01)
        answered = threading.Event()
        self.addCleanup(answered.set)
        asked = threading.Event()

        def save(_instance: Any) -> None:
            asked.set()
            answered.wait(60)

        self.save = save
        with server_progress.followed(samples.UUID) as progress:
            progress.report(*HALF)
            self.assertTrue(asked.wait(30))
            progress.report(*HALF)
        self.assertFalse(answered.is_set())

    def test_error_does_not_matter(self) -> None:
        tried = threading.Event()

        def save(_instance: Any) -> None:
            tried.set()
            raise RuntimeError('no conductor')

        self.save = save
        with server_progress.followed(samples.UUID) as progress:
            progress.report(*HALF)
            self.assertTrue(tried.wait(30))
