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

"""Undo steps: each undoes one change that an operation has begun.

Open this file to write a step.  A step is a frozen dataclass whose fields are
the data that undoing needs.  They are written to the journal
(``journal.py``), under the name by which the class is registered::

    @dataclasses.dataclass(frozen=True)
    class RemoveFolder(undo.Step, kind='remove the folder'):
        folder: str

        def undo(self, resources: undo.Resources) -> None: ...

The running process calls ``undo()`` when the block that made the change ends,
and so does a recovery, maybe days later and after a reboot.  Therefore a step
reads the state of now and does only what is missing.  Undoing a step twice,
or undoing a change that never happened, has to be harmless.
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

#: Metadata of a field that is not in the journal, since only the running
#: process can use it.
VOLATILE = {'volatile': True}


class Resources:
    """Objects that undo steps work on, found by type, such as a guest."""

    def __init__(self, *resources: object) -> None:
        self._resources = resources

    def get(self, wanted: type[T]) -> T:
        """Return the resource of a type.

        :raises ResourceMissing: this process has none.
        """
        found = self.find(wanted)
        if found is None:
            raise exception.ResourceMissing(name=wanted.__name__)
        return found

    def find(self, wanted: type[T]) -> T | None:
        """Return the resource of a type, or None if this process has none."""
        for resource in self._resources:
            if isinstance(resource, wanted):
                return resource
        return None


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
        """Make the step from its data in the journal.

        :raises TypeError: the data is not that of this step.
        """
        return cls(**data)

    def data(self) -> Data:
        """Return the data for the journal: the fields, as JSON has them."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if not field.metadata.get('volatile')
        }

    @abc.abstractmethod
    def undo(self, resources: Resources) -> None:
        """Undo the change, as far as that is still necessary.

        :raises Exception: the step is not undone, and stays in the journal.
        """


@dataclasses.dataclass(frozen=True)
class UnknownStep(Step):
    """A step that this process has no class for.

    Examples are a step of nova-compute in the journal of the command, and a
    step of a later release.  The step stays in the journal as it is.
    """

    name: str
    content: Data

    @property
    def kind(self) -> str:  # type: ignore[override]
        """Name of the step in the journal."""
        return self.name

    def data(self) -> Data:
        """Return the data from the journal, unchanged."""
        return self.content

    def undo(self, resources: Resources) -> None:
        """Fail, and say that another process has to undo the step.

        :raises ResourceMissing: always.
        """
        raise exception.ResourceMissing(name=f'the undo step "{self.name}"')


_REGISTERED: dict[str, type[Step]] = {}


def load(kind: str, data: Data) -> Step:
    """Make the step that has this name and this data in the journal.

    :raises TypeError: the data is not that of the step.
    """
    registered = _REGISTERED.get(kind)
    if registered is None:
        return UnknownStep(kind, data)
    return registered.from_data(data)
