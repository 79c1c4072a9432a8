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

"""Runs an external program for the lab; the error carries what it said."""

import os
import pathlib
import subprocess


class CommandFailed(Exception):
    """A program ended with an error; the message has all of its output."""


def environment() -> dict[str, str]:
    """Ours, with the administrator's programs on PATH and in English."""
    path = f'{os.environ["PATH"]}:/usr/sbin:/sbin'
    return {**os.environ, 'PATH': path, 'LC_ALL': 'C.UTF-8'}


def run(
    *argv: str | os.PathLike[str],
    cwd: pathlib.Path | None = None,
    stdin: str | None = None,
    accept: tuple[int, ...] = (0,),
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; its output, both streams, is in ``stdout``.

    The administrator's programs are found whatever PATH says.

    :param accept: the exit codes that are no failure.
    :raises CommandFailed: any other exit code.
    """
    result = subprocess.run(
        argv,
        cwd=cwd,
        env=environment(),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors='replace',
        check=False,
    )
    if result.returncode not in accept:
        words = ' '.join(os.fspath(word) for word in argv)
        raise CommandFailed(
            f'{words}: exit code {result.returncode}\n{result.stdout}'
        )
    return result
