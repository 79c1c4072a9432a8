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

"""The command ``python -m nova_snap.qcow2 SOURCE -o FILE``."""

import argparse
from collections.abc import Generator
import contextlib
import os
import sys
from typing import BinaryIO

from nova_snap.qcow2 import codec
from nova_snap.qcow2 import errors
from nova_snap.qcow2 import file_source
from nova_snap.qcow2 import nbd_source
from nova_snap.qcow2 import writer


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m nova_snap.qcow2',
        description='Write a qcow2 image in one pass, without seeking.',
    )
    parser.add_argument(
        'source',
        metavar='SOURCE',
        help='a raw file, a block device, or the URI of an NBD export',
    )
    parser.add_argument(
        '-o',
        '--output',
        metavar='FILE',
        required=True,
        help='the image, which must not exist; "-" is standard output',
    )
    parser.add_argument(
        '--compress',
        choices=(*codec.ALGORITHMS, 'none'),
        default='zstd',
        help='how to compress; zlib is for QEMU before 5.1 (default: zstd)',
    )
    parser.add_argument(
        '--level', type=int, help="the algorithm's own level of compression"
    )
    parser.add_argument(
        '--threads',
        type=_positive,
        default=2,
        help='how many threads compress at once (default: 2)',
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _source(name: str) -> file_source.FileSource | nbd_source.NbdSource:
    if name.startswith(('nbd://', 'nbds://', 'nbd+', 'nbds+')):
        return nbd_source.NbdSource(name)
    return file_source.FileSource(name)


@contextlib.contextmanager
def _output(name: str) -> Generator[BinaryIO, None, None]:
    """Open a new file, removed if anything fails; or standard output."""
    if name == '-':
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with open(name, 'xb') as file:
        try:
            yield file
        except BaseException:
            os.unlink(name)
            raise


def _write(arguments: argparse.Namespace) -> None:
    with contextlib.ExitStack() as stack:
        source = _source(arguments.source)
        stack.enter_context(contextlib.closing(source))
        if arguments.compress == 'none':
            stream = writer.write_plain(source)
        else:
            stream = writer.write_compressed(
                source,
                arguments.compress,
                level=arguments.level,
                threads=arguments.threads,
            )
        stack.enter_context(stream)
        output = stack.enter_context(_output(arguments.output))
        for chunk in stream:
            output.write(chunk)


def main() -> int:
    """Run the command and return its exit status."""
    try:
        _write(_parser().parse_args())
    except (errors.Qcow2Error, OSError) as error:
        print(f'{error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
