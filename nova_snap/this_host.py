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

"""Identity of this host, and of its current boot.

Data that is written for a later process carries this identity.  By it, that
process can tell whether the data is its own and still valid.
"""

import dataclasses
import pathlib
import platform
import time
from typing import Any

#: Random, made by the kernel when it starts.  random(4)
BOOT_ID = pathlib.Path('/proc/sys/kernel/random/boot_id')

#: https://www.freedesktop.org/software/systemd/man/latest/machine-id.html
MACHINE_ID = pathlib.Path('/etc/machine-id')


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where an operation was begun; None is what is not known.

    :ivar machine: the machine id, or Nova's name of the host.
    :ivar boot: id of the host's boot.
    :ivar uri: of the libvirt whose guest it is.
    """

    machine: str | None = None
    boot: str | None = None
    uri: str | None = None

    @classmethod
    def from_data(cls, data: Any) -> 'Origin':
        """Make the origin from JSON; what is not known may be missing.

        :raises TypeError: it is no origin.
        """
        return cls(**data)

    def data(self) -> dict[str, str | None]:
        """Return what JSON has of it."""
        return dataclasses.asdict(self)

    def is_elsewhere(self, here: 'Origin') -> bool:
        """Return True if it is another host or another libvirt."""
        return _differ(self.machine, here.machine) or _differ(
            self.uri, here.uri
        )


#: Of which nothing is known: no entry is elsewhere for it.
UNKNOWN = Origin()


def origin(uri: str, machine: str | None = None) -> Origin:
    """Return the origin of operations that this process begins.

    :param uri: of libvirt.
    :param machine: a name of this host that no other host has; by default
        its machine id.
    """
    return Origin(machine or machine_id(), boot_id(), uri)


def boot_id() -> str | None:
    """Return the id of this boot of the host, or None if it has none."""
    return _line(BOOT_ID)


def uptime() -> float:
    """Return the seconds since the boot of this host, asleep or not."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def machine_id() -> str | None:
    """Return the id of this host, or its name if it has no id."""
    return _line(MACHINE_ID) or platform.node() or None


def _line(path: pathlib.Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:
        return None


def _differ(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and one != other
