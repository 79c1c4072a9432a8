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

"""A random walk over taking, going back to, and deleting domain snapshots.

After each step every file is checked, and what each domain snapshot has is
compared with what was written, and the tree with virsh's.
"""

import os
import random
import time

from tests.functional import base
from tests.functional import domain_snapshot_base
from tests.lab import exhaustive

#: A failure names the one that it had.
SEED = int(os.environ.get('NOVA_SNAP_TEST_SEED') or time.time_ns() % 10**6)

#: Steps of a walk.
STEPS = exhaustive.choose((8, 100), usual=(8,))

#: Sections of the disk.
SECTIONS = 15


@exhaustive.usually('test_internal_too')
class TestWalk(domain_snapshot_base.ContentTestCase):
    """A guest that does not run: so it is known what it has written."""

    def setUp(self) -> None:
        super().setUp()
        self.random = random.Random(SEED)  # noqa: S311
        self.addDetailUniqueName(
            'seed', base.text(f'NOVA_SNAP_TEST_SEED={SEED}')
        )
        self.guest_ = self.stopped()
        self.now: dict[int, int] = {1: 1}
        self.kept: dict[str, dict[int, int]] = {}
        self.internal: set[str] = set()
        self.taken = 0

    def test_external(self) -> None:
        self.walk(max(STEPS), is_mixed=False)

    def test_internal_too(self) -> None:
        self.walk(max(STEPS), is_mixed=True)

    def walk(self, steps: int, is_mixed: bool) -> None:
        for step in range(steps):
            self.change()
            actions = (
                [self.take_one]
                if step < 3
                else [
                    *(self.take_one, self.revert_one, self.delete_one),
                ]
            )
            done = self.random.choice(actions)(is_mixed)
            with self.subTest(f'seed {SEED}, step {step}: {done}'):
                self.check()

    def change(self) -> None:
        section = self.random.randrange(1, SECTIONS)
        number = self.random.randrange(1, 256)
        self.write(self.guest_, number, section)
        self.now[section] = number

    def take_one(self, is_mixed: bool) -> str:
        self.taken += 1
        name = f's{self.taken}'
        is_internal = is_mixed and self.random.random() < 0.4
        arguments = ('--internal',) if is_internal else ()
        self.take(self.guest_, name, *arguments)
        self.kept[name] = dict(self.now)
        if is_internal:
            self.internal.add(name)
        return f'take {name} {arguments}'

    def revert_one(self, _is_mixed: bool) -> str:
        if not self.kept:
            return 'nothing'
        name = self.random.choice(sorted(self.kept))
        if self.run_one('snapshot-revert', name):
            self.now = dict(self.kept[name])
        return f'revert to {name}'

    def delete_one(self, _is_mixed: bool) -> str:
        if not self.kept:
            return 'nothing'
        name = self.random.choice(sorted(self.kept))
        arguments = ('--children',) if self.random.random() < 0.2 else ()
        self.run_one('snapshot-delete', name, *arguments)
        left = {name for _depth, name in self.virsh_tree(self.guest_)}
        if not arguments:
            self.assertLessEqual(set(self.kept) - left, {name})
        self.kept = {n: kept for n, kept in self.kept.items() if n in left}
        return f'delete {name} {arguments}'

    def run_one(self, command: str, name: str, *arguments: str) -> bool:
        """Return False if it is refused, as some branches are."""
        done = self.run_command(
            command, self.guest_.uuid, name, *arguments, status=None
        )
        self.assertIn(
            done.returncode, (0, domain_snapshot_base.CONFLICT), done.stderr
        )
        return done.returncode == 0

    def check(self) -> None:
        self.assert_same_tree(self.guest_)
        self.assertEqual(set(self.kept), set(self.listed(self.guest_)))
        self.assertEqual(self.now, self.sections(self.disk(self.guest_)))
        for name, kept in self.kept.items():
            path = self.frozen(self.guest_, name)
            internal = name if name in self.internal else None
            self.assertEqual(kept, self.sections(path, internal), name)
        self.assert_nothing_left()
