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

"""Where the processor time of a snapshot goes, by perf, as a table."""

import collections
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import pathlib
import re
import signal
import subprocess

#: Samples a second; not a divisor of what the kernel does regularly.
FREQUENCY = '997'

#: "ADDRESS SYMBOL (OBJECT)"
_FRAME = re.compile(r'\s*[0-9a-f]+ (.*) \((.*)\)$')

#: Object and symbol in which a sample was taken; the first that fits counts.
_PLACES = (
    ('zstd: search for matches', r'/_zstd\..* ZSTD_\w*compressBlock'),
    ('zstd: the rest', r'/_zstd\.'),
    ('hashes', r'libcrypto|/_sha|/_hashlib'),
    ('libc: copies in memory', r'libc\.so\S* \w*mem(move|cpy|set|cmp)'),
    ('libc: the rest', r'libc\.so|ld-linux'),
    ('libnbd and its binding', r'libnbd'),
    ('Python', r'python|\.so|vdso'),
)

#: The call of the kernel, or the reason that it was entered for.
_CALLS = (
    ('kernel: waits of threads for each other', 'sys_futex'),
    ('kernel: sending', r'sys_(send|write)'),
    ('kernel: receiving', r'sys_(recv|read|p?poll)'),
    ('kernel: memory', r'page_fault|sys_(mmap|munmap|madvise|brk|mremap)'),
)
_OTHER_CALLS = 'kernel: the rest'
_UNKNOWN = 'not known'


@contextlib.contextmanager
def recorded(pids: Iterable[int], path: pathlib.Path) -> Iterator[None]:
    """Sample these processes, with their threads, while the block runs."""
    perf = subprocess.Popen(
        ['perf', 'record', '-q', '-g', '-e', 'cpu-clock', '-F', FREQUENCY]
        + ['-o', str(path), '-p', ','.join(map(str, pids))]
    )
    try:
        yield
    finally:
        perf.send_signal(signal.SIGINT)
        perf.wait()


def table(path: pathlib.Path) -> str:
    """Return the shares of the places in which samples were taken."""
    script = subprocess.run(
        ['perf', 'script', '-F', 'ip,sym,dso', '-i', str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    places = collections.Counter(map(_place, _samples(script.stdout)))
    total = places.total()
    lines = [f'{total} samples of the processor time, {FREQUENCY} a second']
    for place, count in places.most_common():
        lines.append(f'{count / total:6.1%}  {place}')
    return '\n'.join(lines)


def _samples(script: str) -> Iterator[list[tuple[str, str]]]:
    """Yield (symbol, object) of the frames of each sample, innermost first."""
    for sample in script.split('\n\n'):
        frames = [_FRAME.match(line) for line in sample.splitlines()]
        if found := [frame.groups() for frame in frames if frame]:
            yield [(symbol, code) for symbol, code in found]


def _place(frames: list[tuple[str, str]]) -> str:
    symbol, code = frames[0]
    if not code.startswith('[kernel'):
        return _first(_PLACES, f'{code} {symbol}', _UNKNOWN)
    kernel = [name for name, code in frames if code.startswith('[kernel')]
    return _first(_CALLS, ' '.join(kernel), _OTHER_CALLS)


def _first(table: Iterable[tuple[str, str]], text: str, otherwise: str) -> str:
    for place, pattern in table:
        if re.search(pattern, text):
            return place
    return otherwise
