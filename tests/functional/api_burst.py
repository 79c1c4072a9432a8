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
"""Many requests at once, and what a process needs meanwhile.

Open this file for how ``test_api_stress.py`` sends and measures.
"""

from collections.abc import Callable
from collections.abc import Sequence
import contextlib
import dataclasses
import http.client
import json
import pathlib
import threading
import time
from typing import Any

#: Seconds that a client waits for an answer: only a hang takes longer.
PATIENCE = 120


@dataclasses.dataclass(frozen=True)
class Request:
    """A request; ``body`` is sent as JSON."""

    method: str
    path: str
    body: Any = None


@dataclasses.dataclass(frozen=True)
class Answer:
    """What became of a request.

    :ivar status: of HTTP; None if the connection broke.
    :ivar seconds: from the moment at which all requests were sent.
    """

    request: Request
    status: int | None
    document: Any
    headers: dict[str, str]
    seconds: float


class Burst:
    """Requests that are all sent at the same moment.

    :ivar answers: those that have come until now.
    """

    def __init__(
        self,
        connect: Callable[[], http.client.HTTPConnection],
        headers: dict[str, str],
        requests: Sequence[Request],
    ) -> None:
        self.answers: list[Answer] = []
        self._connect = connect
        self._headers = headers
        self._together = threading.Barrier(len(requests))
        self._threads = [
            threading.Thread(target=self._send, args=(request,), daemon=True)
            for request in requests
        ]
        for thread in self._threads:
            thread.start()

    def wait(self) -> list[Answer]:
        """Return the answers when all requests have got theirs."""
        for thread in self._threads:
            thread.join()
        return self.answers

    def _send(self, request: Request) -> None:
        body = None if request.body is None else json.dumps(request.body)
        self._together.wait()
        began = time.monotonic()
        status, document, headers = None, None, {}
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            contextlib.closing(self._connect()) as connection,
        ):
            connection.request(
                request.method, request.path, body, self._headers
            )
            answer = connection.getresponse()
            text = answer.read()
            document = json.loads(text) if text else None
            headers = {name.lower(): v for name, v in answer.getheaders()}
            status = answer.status
        seconds = time.monotonic() - began
        self.answers.append(
            Answer(request, status, document, headers, seconds)
        )


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a process has of the host: MiB of memory, threads, open files."""

    memory: int
    threads: int
    files: int

    @classmethod
    def of(cls, pid: int) -> 'Needs':
        """Return what a process needs now."""
        folder = pathlib.Path('/proc', str(pid))
        fields = dict(
            line.split(':', 1)
            for line in (folder / 'status').read_text().splitlines()
        )
        return cls(
            memory=int(fields['VmRSS'].split()[0]) >> 10,
            threads=int(fields['Threads']),
            files=len(list((folder / 'fd').iterdir())),
        )


def distribution(answers: Sequence[Answer]) -> str:
    """Return how long answers took, in words for a person."""
    seconds = sorted(answer.seconds for answer in answers)
    parts = [
        f'{name} {seconds[int(part * (len(seconds) - 1))]:.3f} s'
        for name, part in (
            ('half within', 0.5),
            ('95 % within', 0.95),
            ('all within', 1),
        )
    ]
    return ', '.join(parts)
