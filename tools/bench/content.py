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

"""What the disks of the benchmark hold: files of this host, or noise."""

from collections.abc import Iterator
import hashlib
import itertools
import os
import pathlib

#: Where the files come from.
TREE = pathlib.Path('/usr')

#: A file begins at a multiple of this, as in a file system.
BLOCK = 4096
#: Bytes that are written at once.
CHUNK = 1 << 20


def os_like() -> Iterator[bytes]:
    """Yield the files of an operating system, block by block.

    They come in an order that is always the same and mixes programs,
    libraries and texts, so any part of it compresses like any other.
    """
    files = [
        path
        for directory, _, names in os.walk(TREE)
        for path in (pathlib.Path(directory, name) for name in names)
        if path.is_file() and not path.is_symlink()
    ]
    files.sort(key=lambda path: hashlib.sha1(bytes(path)).digest())
    for path in itertools.cycle(files):
        yield from _blocks(path)


def _blocks(path: pathlib.Path) -> Iterator[bytes]:
    with path.open('rb') as file:
        while piece := file.read(CHUNK):
            yield piece.ljust(-(-len(piece) // BLOCK) * BLOCK, b'\0')


def incompressible() -> Iterator[bytes]:
    """Random bytes: what is encrypted or compressed already."""
    while True:
        yield os.urandom(CHUNK)


#: Contents by their names.
CONTENTS = {'os': os_like, 'random': incompressible}


def write(path: pathlib.Path, pieces: Iterator[bytes], size: int) -> None:
    """Put so many bytes into a new file."""
    with path.open('wb') as file:
        while (left := size - file.tell()) > 0:
            file.write(next(pieces)[:left])
