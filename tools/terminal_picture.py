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

r"""Run commands in a terminal, and draw what it shows as SVG.

    pip install rich
    python tools/terminal_picture.py doc/source/poll.svg \
        'nova-snap image-create --poll web-1 before-upgrade'

makes the picture of the README.  The commands really run, in turn, each with a
terminal of its own.
"""

import io
import os
import pathlib
import pty
import re
import shlex
import subprocess
import sys
import termios

from rich import console as console_lib
from rich import text as text_lib

COLUMNS = 78

#: Moves of the cursor that the progress bars make; colors are kept.
_MOVES = re.compile(r'\x1b\[[0-9;]*[A-HJKfhl]')

_FONT_FACE = re.compile(r'\s*@font-face \{[^}]*\}')


def run(words: list[str]) -> str:
    """Run a command in a terminal; return all that it wrote there."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, COLUMNS))
    child = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, 'COLUMNS': str(COLUMNS), 'TERM': 'xterm-256color'},
    )
    os.close(theirs)
    written = bytearray()
    try:
        while block := os.read(ours, 65536):
            written += block
    except OSError:  # the other end was closed by the last program
        pass
    os.close(ours)
    if child.wait():
        raise SystemExit(f'{words}: status {child.returncode}\n{written!r}')
    return written.decode()


def shown(written: str) -> str:
    """Return what stays on the screen: a bar is drawn over itself."""
    lines = _MOVES.sub('', written.replace('\r\n', '\n')).split('\n')
    return '\n'.join(line.rstrip('\r').rpartition('\r')[2] for line in lines)


def main(path: str, commands: list[str]) -> None:
    """Run the commands, and write the picture to a file."""
    console = console_lib.Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True
    )
    for command in commands:
        console.print(text_lib.Text(f'# {command}', 'bold'))
        output = shown(run(shlex.split(command)))
        console.print(text_lib.Text.from_ansi(output.rstrip()))
    # Without fonts that a browser would fetch from elsewhere.
    picture = _FONT_FACE.sub('', console.export_svg(title='nova-snap'))
    pathlib.Path(path).write_text(picture)


if __name__ == '__main__':
    main(sys.argv[1], sys.argv[2:])
