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

"""Undo steps: what an operation has begun, and how each thing is undone.

Open this file to write a step.  A step is a frozen dataclass whose fields are
what its undoing needs; they are in the journal (``journal.py``), under the
name by which the class is registered::

    @dataclasses.dataclass(frozen=True)
    class RemoveFolder(undo.Step, kind='remove the folder'):
        folder: str

        def undo(self, resources: undo.Resources) -> None: ...

The running process calls ``undo()`` when the block ends that began the thing,
and so does a recovery, maybe days later and after a reboot.  Therefore a step
looks at what is there now and does only what is missing: it is right when it
is done twice, and when what it undoes never happened.
"""

import abc
from collections.abc import Mapping
import dataclasses
from typing import Any
from typing import ClassVar
from typing import Self
from typing import TypeVar

from nova_snap import exception

T = TypeVar('T')

Data = Mapping[str, Any]

#: Metadata of a field that is not in the journal: what only the running
#: process knows.
VOLATILE = {'volatile': True}


class Resources:
    """What undo steps work on, found by type: a guest, an image service."""

    def __init__(self, *resources: object) -> None:
        self._resources = resources

    def get(self, wanted: type[T]) -> T:
        """Return the resource of a type.

        :raises ResourceMissing: this process has none.
        """
        for resource in self._resources:
            if isinstance(resource, wanted):
                return resource
        raise exception.ResourceMissing(name=wanted.__name__)


@dataclasses.dataclass(frozen=True)
class Step(abc.ABC):
    """Something that has to be undone.

    :cvar kind: the name in the journal and in messages, a phrase that
        continues "failed to ...".
    :cvar is_blocking: the next operation on the instance may not begin
        before this is undone.
    """

    kind: ClassVar[str]
    is_blocking: ClassVar[bool] = True

    def __init_subclass__(cls, kind: str | None = None) -> None:
        super().__init_subclass__()
        if kind is not None:
            cls.kind = kind
            _REGISTERED[kind] = cls

    @classmethod
    def from_data(cls, data: Data) -> Self:
        """Make the step from what stands in the journal.

        :raises TypeError: the data is not that of this step.
        """
        return cls(**data)

    def data(self) -> Data:
        """Return what stands in the journal: the fields, as JSON has them."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if not field.metadata.get('volatile')
        }

    @abc.abstractmethod
    def undo(self, resources: Resources) -> None:
        """Undo it, as far as that is still necessary.

        :raises Exception: it is not undone, and stays in the journal.
        """


@dataclasses.dataclass(frozen=True)
class UnknownStep(Step):
    """A step that this process has no class for.

    Such as one of nova-compute in the journal of the command, or one of a
    later release.  It stays as it is in the journal.
    """

    name: str
    content: Data

    @property
    def kind(self) -> str:  # type: ignore[override]
        """The name that stands in the journal."""
        return self.name

    def data(self) -> Data:
        """Return what stands in the journal."""
        return self.content

    def undo(self, resources: Resources) -> None:
        """Fail, and say that somebody else has to do it.

        :raises ResourceMissing: always.
        """
        raise exception.ResourceMissing(name=f'the undo step "{self.name}"')


_REGISTERED: dict[str, type[Step]] = {}


def load(kind: str, data: Data) -> Step:
    """Make the step that stands in the journal under a name.

    :raises TypeError: the data is not that of the step.
    """
    registered = _REGISTERED.get(kind)
    if registered is None:
        return UnknownStep(kind, data)
    return registered.from_data(data)
