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

"""Live or cold, and why: the answer that a driver gives before it acts."""

import dataclasses
import enum


class Path(enum.StrEnum):
    """The way of reading a disk: of a running guest, or a stopped one."""

    LIVE = 'live'
    COLD = 'cold'


class Method(enum.StrEnum):
    """How a live path reads the disk; rbd_direct reads none, on any path."""

    MIRROR = 'mirror'
    PULL = 'pull'
    RBD_DIRECT = 'rbd_direct'


@dataclasses.dataclass(frozen=True)
class Reason:
    """One fact, its value, the live methods that it allows, and why."""

    fact: str
    value: str
    allows: frozenset[Method]
    meaning: str


@dataclasses.dataclass(frozen=True)
class Decision:
    """The path, what it does to the guest, and the reasons for it.

    ``considered`` are the live methods that the configuration allows, the
    preferred one first; ``method`` is the chosen one, None if the disk is read
    on the cold path.
    """

    path: Path
    method: Method | None
    suspends: bool
    considered: tuple[Method, ...]
    reasons: tuple[Reason, ...]

    @property
    def objections(self) -> tuple[Reason, ...]:
        """Reasons that forbid a method that was considered."""
        considered = set(self.considered)
        return tuple(r for r in self.reasons if considered - r.allows)

    @property
    def alternatives(self) -> frozenset[Method]:
        """Live methods that are possible, but were not considered."""
        return self.possible - set(self.considered)

    @property
    def possible(self) -> frozenset[Method]:
        """Live methods that every fact allows."""
        return frozenset(Method).intersection(
            *(reason.allows for reason in self.reasons)
        )

    @property
    def summary(self) -> str:
        """The decision in one sentence."""
        if self.method is Method.RBD_DIRECT:
            return 'The guest is left as it is; the image is made inside Ceph.'
        if self.method is Method.PULL:
            return 'The guest keeps running; its disk is read as it is now.'
        if self.method is Method.MIRROR:
            return 'The guest keeps running; its disk is copied meanwhile.'
        why = '; '.join(reason.meaning for reason in self.objections)
        if self.suspends:
            return f'The guest is suspended while its disk is read: {why}.'
        return f'The disk is read, and the guest left as it is: {why}.'
