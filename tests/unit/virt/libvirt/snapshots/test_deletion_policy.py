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

"""What becomes of the files of a domain snapshot; files are (0, number)."""

from nova_snap.virt.libvirt.snapshots import deletion_policy
from tests.unit import base

OWN = 'own'


def file(number: int) -> deletion_policy.Identity:
    return 0, number


def need(
    snapshot: str | None,
    *files: int,
    uuid: str = OWN,
    is_leftover: bool = False,
    is_inside: bool = False,
) -> deletion_policy.Need:
    """Make a need, which is named after the domain snapshot."""
    return deletion_policy.Need(
        what=snapshot or 'the disk',
        uuid=uuid,
        device='vda',
        snapshot=snapshot,
        is_leftover=is_leftover,
        is_inside=is_inside,
        chain=tuple(map(file, files)),
    )


def host(
    *needs: deletion_policy.Need, internal: tuple[int, ...] = ()
) -> deletion_policy.Host:
    return deletion_policy.Host(
        own_uuid=OWN,
        needs=needs,
        internal=frozenset(map(file, internal)),
        names={file(number): f'file {number}' for number in range(10)},
    )


def delete(
    found: deletion_policy.Host, name: str, frozen: int, overlay: int
) -> tuple[list[tuple[int, int]], list[int], str]:
    """Return what is merged (from, to), and removed, and the refusals."""
    files = found.delete(
        deletion_policy.Snapshot(
            name, {'vda': file(frozen)}, {'vda': file(overlay)}, {}
        )
    )
    return (
        [(merge.top[1], merge.base[1]) for merge in files.merges],
        [identity[1] for identity in files.remove],
        '; '.join(files.refusals),
    )


def leftover(snapshot: str, *files: int) -> deletion_policy.Need:
    return need(snapshot, *files, is_leftover=True)


# 1 <- 2 <- 3: "a" has 1, "b" has 2, the guest writes to 3.
CHAIN = (
    need('a', 1),
    leftover('a', 2, 1),
    need('b', 2, 1),
    leftover('b', 3, 2, 1),
    need(None, 3, 2, 1),
)


class TestChain(base.TestCase):
    def test_each(self) -> None:
        self.assertEqual(([(2, 1)], [], ''), delete(host(*CHAIN), 'a', 1, 2))
        self.assertEqual(([(3, 2)], [], ''), delete(host(*CHAIN), 'b', 2, 3))

    def test_one_after_another(self) -> None:
        found = host(*CHAIN)
        delete(found, 'b', 2, 3)
        # By now the guest writes to 2.
        self.assertEqual(([(2, 1)], [], ''), delete(found, 'a', 1, 2))

    def test_a_file_that_is_needed_as_it_is(self) -> None:
        found = host(*CHAIN, need('memory', 2, 1))
        self.assertEqual(([], [], ''), delete(found, 'b', 2, 3))

    def test_the_disk_is_needed_as_it_is(self) -> None:
        found = host(*CHAIN, need('memory', 3, 2, 1))
        _merges, _removed, why = delete(found, 'b', 2, 3)
        self.assertIn('memory needs it as it is', why)

    def test_internal(self) -> None:
        inside = need('i', 2, 1, is_inside=True)
        found = host(*CHAIN, inside, internal=(2,))
        self.assertEqual(([(3, 2)], [], ''), delete(found, 'b', 2, 3))
        found = host(*CHAIN, inside, internal=(2,))
        self.assertIn('would be lost', delete(found, 'a', 1, 2)[2])

    def test_another_guest(self) -> None:
        other = need(None, 5, 2, 1, uuid='other')
        for name, frozen in (('a', 1), ('b', 2)):
            with self.subTest(name):
                found = host(*CHAIN, other)
                why = delete(found, name, frozen, frozen + 1)[2]
                self.assertIn(f'file {frozen} is needed by', why)


# "a" has 1; after "b", which has 2, the guest went back to "a", to 4.
BRANCHES = (
    need('a', 1),
    leftover('a', 2, 1),
    need('b', 2, 1),
    leftover('b', 3, 2, 1),
    need(None, 4, 1),
)


class TestBranches(base.TestCase):
    def test_root(self) -> None:
        why = delete(host(*BRANCHES), 'a', 1, 2)[2]
        self.assertIn('more than one branch lies over file 1', why)

    def test_branch_that_was_left(self) -> None:
        found = host(*BRANCHES)
        self.assertEqual(([], [2, 3], ''), delete(found, 'b', 2, 3))
        self.assertEqual(([(4, 1)], [], ''), delete(found, 'a', 1, 2))

    def test_the_disk_that_it_began_with_stays(self) -> None:
        found = host(need('a', 1), leftover('a', 2, 1), need(None, 4))
        self.assertEqual(([], [2], ''), delete(found, 'a', 1, 2))

    def test_file_of_a_revert(self) -> None:
        # "c" has 4, which lies over what "a" has.
        found = host(
            need('a', 1),
            need('c', 4, 1),
            leftover('c', 5, 4, 1),
            need(None, 6, 1),
        )
        self.assertEqual(([], [4, 5], ''), delete(found, 'c', 4, 5))
