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


"""Edits of elements in the text of XML, which leave all the rest as it is.

A parser that writes the whole document again moves the namespaces of what
other programs have written into it.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any
from xml.parsers import expat  # nosec B406  libvirt's own XML

_SEPARATOR = '}'


@dataclasses.dataclass(frozen=True)
class Edit:
    """Bytes from ``start`` to before ``beyond`` that become another text."""

    start: int
    beyond: int
    text: str


@dataclasses.dataclass(frozen=True)
class Span:
    """An element in a text, by its place in the bytes.

    :ivar inside: where its content begins; None if it has none (``<a/>``).
    """

    start: int
    beyond: int
    inside: int | None
    text: str

    def replaced(self, text: str) -> Edit:
        """Return the edit that puts another text in place of the element."""
        return Edit(self.start, self.beyond, text)

    def begun_with(self, text: str) -> Edit:
        """Return the edit that puts a text before the element's content."""
        if self.inside is not None:
            return Edit(self.inside, self.inside, text)
        name = self.text.removeprefix('<').split('/')[0].split()[0]
        opened = f'{self.text.removesuffix("/>")}>'
        return Edit(self.start, self.beyond, f'{opened}{text}</{name}>')


def spans(xml: str, path: Sequence[str]) -> list[Span]:
    """Return the elements with a path, from the root element on.

    :param path: names, those of a namespace as ``{NAMESPACE}NAME``.
    """
    data = xml.encode()
    finder = _Finder(data, tuple(name.removeprefix('{') for name in path))
    finder.parser.Parse(data, True)
    return finder.found


def edited(xml: str, edits: Sequence[Edit]) -> str:
    """Return a text with edits, which do not overlap."""
    data = xml.encode()
    for edit in sorted(edits, key=lambda one: one.start, reverse=True):
        new = edit.text.encode()
        data = data[: edit.start] + new + data[edit.beyond :]
    return data.decode()


class _Finder:
    """The elements with one path in a text."""

    def __init__(self, data: bytes, path: tuple[str, ...]) -> None:
        self.found: list[Span] = []
        self.parser: Any = expat.ParserCreate(
            'utf-8', namespace_separator=_SEPARATOR
        )
        self.parser.StartElementHandler = self._begin
        self.parser.EndElementHandler = self._end
        self._data = data
        self._path = path
        self._open: list[tuple[str, int]] = []

    def _begin(self, name: str, _attributes: object) -> None:
        self._open.append((name, self.parser.CurrentByteIndex))

    def _end(self, _name: str) -> None:
        path = tuple(name for name, _start in self._open)
        _name, start = self._open.pop()
        if path != self._path:
            return
        # libvirt escapes ">" in values.
        beyond = self._data.index(b'>', start) + 1
        inside = None
        if self._data[beyond - 2 : beyond] != b'/>':
            inside = beyond
            end = self.parser.CurrentByteIndex
            beyond = self._data.index(b'>', end) + 1
        text = self._data[start:beyond].decode()
        self.found.append(Span(start, beyond, inside, text))
