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

"""Findings of a check of the host, and how severe each of them is."""

from collections.abc import Callable
from collections.abc import Iterator
import dataclasses
import enum

from oslo_config import cfg

from nova_snap import exception


class Result(enum.StrEnum):
    """The severity of a finding."""

    OK = 'ok'
    WARNING = 'warning'
    FAILED = 'failed'


@dataclasses.dataclass(frozen=True)
class Finding:
    """The subject and the result of a check; ``detail`` is a sentence."""

    check: str
    result: Result
    detail: str


Check = Callable[[], Iterator[Finding]]


def ok(check: str, detail: object) -> Finding:
    """Make a finding that needs no action."""
    return Finding(check, Result.OK, str(detail))


def warning(check: str, detail: object) -> Finding:
    """Make a finding that an operator should know of; snapshots work."""
    return Finding(check, Result.WARNING, str(detail))


def failed(check: str, detail: object) -> Finding:
    """Make a finding that keeps snapshots, or recovery, from working."""
    return Finding(check, Result.FAILED, str(detail))


def run(check: Check) -> Iterator[Finding]:
    """Yield the findings of a check; an exception is a failed finding."""
    name = check.__name__.removeprefix('check_')
    try:
        yield from check()
    except cfg.ConfigSourceValueError:
        yield failed(name, 'not checked: see options.')
    except exception.NovaSnapError as error:
        yield failed(name, error)
    except OSError as error:
        where = f'{error.filename}: ' if error.filename else ''
        yield failed(name, f'{where}{error.strerror or error}.')
    except Exception as error:
        yield failed(name, f'{type(error).__name__}: {error}')
