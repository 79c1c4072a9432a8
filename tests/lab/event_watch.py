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

"""Writes down every event that libvirt has of a guest.

The watching is done by ``virsh event`` in a process of its own.
"""

import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time
from typing import Self

from tests.lab import guest as guest_lib
from tests.lab import libvirtd as libvirtd_lib

START_TIMEOUT = 20.0

_EVENT = re.compile(r"^event '([\w-]+)' for domain '[^']*': (.*)$", re.M)


class EventWatch:
    """Watches while the block runs; then :attr:`events` is there.

    To know that it hears, and how far it has heard, it changes the title of
    the guest's metadata when the block begins and when it ends.

    :param guest: a persistent one.
    :ivar events: each as ``KIND: WHAT``, ``lifecycle: Suspended Paused`` say.
    """

    def __init__(
        self, libvirtd: libvirtd_lib.Libvirtd, guest: guest_lib.Guest
    ) -> None:
        self._uri = libvirtd.uri
        self._guest = guest
        self.events: list[str] = []

    def __enter__(self) -> Self:
        descriptor, name = tempfile.mkstemp(prefix='events-')
        self._log = pathlib.Path(name)
        self._process = subprocess.Popen(
            # A line at a time, though it goes to a file.
            ['stdbuf', '-oL', 'virsh', '--connect', self._uri]
            + ['event', '--loop', '--all', '--domain', self._guest.uuid],
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
        )
        os.close(descriptor)
        try:
            self._mark()
        except BaseException:
            self._end()
            raise
        self._begin = self._log.stat().st_size
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self._mark()
            text = self._log.read_text()[self._begin :]
        finally:
            self._end()
        self.events = [
            f'{kind}: {what}'
            for kind, what in _EVENT.findall(text)
            if kind != 'metadata-change'
        ]

    def _mark(self) -> None:
        """Make an event, and wait until it is written down."""
        deadline = time.monotonic() + START_TIMEOUT
        size = self._log.stat().st_size
        while self._log.stat().st_size == size:
            if time.monotonic() > deadline:
                raise TimeoutError(self._log.read_text())
            with self._guest.domain() as dom:
                dom.setMetadata(1, None, None, None, 0)
            time.sleep(0.1)

    def _end(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._log.unlink()
