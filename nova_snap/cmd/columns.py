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

"""Columns of tables that are made of what other people wrote."""

from typing import Any

from cliff import columns


class Text(columns.FormattableColumn[str]):
    """Text that cannot do anything to a terminal.

    A name in the image service may be anybody's, and a terminal obeys what is
    in it.  A table shows control characters by their escapes; formats for
    programs (JSON, CSV, value) have the text itself.
    """

    def human_readable(self) -> str:
        """Return the text as a table shows it."""
        return printable(str(self._value))


class TextLines(Text):
    """Text of several lines."""

    def human_readable(self) -> str:
        """Return the lines as a table shows them."""
        return '\n'.join(map(printable, str(self._value).split('\n')))


class Lines(columns.FormattableColumn[Any]):
    """Several texts, one on each line of a table; a list in JSON."""

    def human_readable(self) -> str:
        """Return the lines."""
        return '\n'.join(map(printable, self._value))

    def machine_readable(self) -> list[str]:
        """Return the list."""
        return list(self._value)


class Pairs(columns.FormattableColumn[dict[str, str | None]]):
    """Values by their keys; JSON and YAML have a mapping.

    A value that is not there is None.
    """

    def human_readable(self) -> str:
        """Return a line for each pair."""
        return '\n'.join(
            f'{printable(key)}: {printable(value or "missing")}'
            for key, value in self._value.items()
        )


#: Formats that have text only, and on one line.
_TEXT_FORMATS = ('shell', 'value')


def pairs(found: dict[str, str | None], formatter: str) -> Pairs | str:
    """Return a column of pairs, for the format that was chosen.

    In text a pair is "KEY=VALUE"; one without a value is left out.
    """
    if formatter not in _TEXT_FORMATS:
        return Pairs(found)
    return ' '.join(f'{key}={value}' for key, value in found.items() if value)


def printable(text: str) -> str:
    """Escape the characters that can't be printed, as Python writes them."""
    return ''.join(
        one if one.isprintable() else one.encode('unicode_escape').decode()
        for one in text
    )
