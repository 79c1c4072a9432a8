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

"""What a guest keeps outside of its disks: UEFI variables and a TPM's state.

A test lets the guest store a number in both, through the interfaces that an
operating system has, and later looks which numbers are there: in the files on
the host, or asks the guest.  The guest needs an agent.
"""

import base64
from collections.abc import Sequence
import os
import pathlib
import re
import struct
from typing import Any
import uuid

import libvirt

from tests.lab import guest as guest_lib
from tests.lab import libvirtd as libvirtd_lib

#: Where a guest has its variables, and the name space of ours.
VARIABLES = '/sys/firmware/efi/efivars'
VENDOR = uuid.UUID('6e6f7661-736e-4150-8000-000000000001')

#: Non-volatile, and to be used before and after the operating system starts.
ATTRIBUTES = 7

#: Of the TPM library specification, parts 2 and 3 (TPM_RH_OWNER etc.).
_OWNER = 0x40000001
_PASSWORD = 0x40000009
_SHA256 = 0x000B
_SESSIONS = 0x8002
_NO_SESSIONS = 0x8001
_DEFINE_SPACE = 0x0000012A
_NV_WRITE = 0x00000137
_GET_CAPABILITY = 0x0000017A
_HANDLES = 1
#: OWNERWRITE, AUTHWRITE, OWNERREAD, AUTHREAD, NO_DA.
_NV_ATTRIBUTES = 0x00000002 | 0x00000004 | 0x00020000 | 0x00040000 | 0x02000000
_FIRST_INDEX = 0x01500000

_MARK = re.compile(rb'nova-snap-tpm-(\d\d)')
_SIZE = len(b'nova-snap-tpm-00')


class Firmware:
    """The UEFI variables and the TPM of one guest.

    :param state: of libvirtd, see :class:`tests.lab.libvirtd.Libvirtd`.
    """

    def __init__(self, guest: guest_lib.Guest, state: pathlib.Path) -> None:
        self._guest = guest
        self._libvirt = state / 'libvirt/lib'

    # The files on the host

    @property
    def nvram(self) -> pathlib.Path:
        """The file with the variables."""
        found = re.search(r"<nvram\b.*?>(.*)</nvram>", self._guest.xml())
        if found is None:
            # libvirt 9.0 does not show the name that it has chosen while the
            # guest does not run.
            return self._libvirt / f'qemu/nvram/{self._guest.name}_VARS.fd'
        return self.seen(pathlib.Path(found.group(1)))

    @property
    def tpm(self) -> pathlib.Path:
        """The file with the state of the TPM that outlives a start."""
        folder = self._libvirt / 'swtpm' / self._guest.uuid
        return folder / 'tpm2/tpm2-00.permall'

    def seen(self, path: pathlib.Path) -> pathlib.Path:
        """Return a path that libvirtd has as it is outside of its mounts."""
        if path.is_relative_to('/var/lib/libvirt'):
            return self._libvirt / path.relative_to('/var/lib/libvirt')
        return path

    def variables(self) -> set[int]:
        """Return the numbers that the file has."""
        mark = re.compile(
            b''.join(b'%c\0' % letter for letter in b'NovaSnap')
            + rb'(\d)\0(\d)\0'
        )
        found = mark.findall(self.nvram.read_bytes())
        return {int(tens + ones) for tens, ones in found}

    def tpm_marks(self) -> set[int]:
        """Return the numbers that the file of the TPM has."""
        return {int(n) for n in _MARK.findall(self.tpm.read_bytes())}

    def content(self) -> tuple[bytes, ...]:
        """Return the content of each of the files."""
        return tuple(path.read_bytes() for path in self._files)

    def owners(self) -> list[tuple[int, int, int]]:
        """Return mode, user and group of each of the files."""
        found = []
        for path in self._files:
            stat = path.stat()
            found.append((stat.st_mode, stat.st_uid, stat.st_gid))
        return found

    @property
    def _files(self) -> list[pathlib.Path]:
        uefi, tpm = self._guest.spec.uefi, self._guest.spec.tpm
        return [*([self.nvram] * uefi), *([self.tpm] * tpm)]

    # The guest

    def store(self, number: int) -> None:
        """Let the guest store a number; each only once."""
        if self._guest.spec.uefi:
            data = struct.pack('<I', ATTRIBUTES) + b'x' * 16
            code, _output = self._run(f'cat >{_variable(number)}', data)
            self._require(code)
        if self._guest.spec.tpm:
            self._command(_define_space(number))
            self._command(_nv_write(number))

    def asked(self) -> set[int]:
        """Return the numbers that the guest finds, which must run.

        :raises AssertionError: its firmware and its TPM differ.
        """
        found = []
        if self._guest.spec.uefi:
            found.append(self._asked_variables())
        if self._guest.spec.tpm:
            found.append(self._asked_tpm())
        if any(numbers != found[0] for numbers in found):
            raise AssertionError(f'{found} differ')
        return found[0]

    def stored(self) -> set[int]:
        """Return the numbers that the files have.

        :raises AssertionError: those of the firmware and the TPM differ.
        """
        found = []
        if self._guest.spec.uefi:
            found.append(self.variables())
        if self._guest.spec.tpm:
            found.append(self.tpm_marks())
        if any(numbers != found[0] for numbers in found):
            raise AssertionError(f'{found} differ')
        return found[0]

    def _asked_variables(self) -> set[int]:
        _code, output = self._run(f'ls {VARIABLES}')
        found = re.findall(r'NovaSnap(\d\d)-', output.decode())
        return set(map(int, found))

    def _asked_tpm(self) -> set[int]:
        wanted = struct.pack('>III', _HANDLES, _FIRST_INDEX, 100)
        answer = self._command(_framed(_NO_SESSIONS, _GET_CAPABILITY, wanted))
        # Whether there are more, what they are, and how many.
        _more, _what, count = struct.unpack_from('>?II', answer)
        handles = struct.unpack_from(f'>{count}I', answer, 9)
        # swtpm keeps the certificates of the TPM behind ours.
        numbers = {handle - _FIRST_INDEX for handle in handles}
        return numbers & set(range(100))

    def _command(self, command: bytes) -> bytes:
        """Send a command to the TPM; return what follows the header."""
        _code, answer = self._run(
            'exec 3<>/dev/tpm0; cat >&3; cat <&3', command
        )
        _tag, _size, code = struct.unpack('>HII', answer[:10])
        self._require(code)
        return answer[10:]

    def _run(self, script: str, data: bytes = b'') -> tuple[int, bytes]:
        """Run a script in the guest; return its exit status and output."""
        pid = self._guest.agent(
            'guest-exec',
            path='/bin/sh',
            arg=['-c', script],
            **{'input-data': base64.b64encode(data).decode()},
            **{'capture-output': True},
        )['pid']
        found: dict[str, Any] = {}

        def has_ended() -> bool:
            found.update(self._guest.agent('guest-exec-status', pid=pid))
            return bool(found['exited'])

        self._guest.wait_for(has_ended, 'end of a script', 60)
        return found['exitcode'], base64.b64decode(found.get('out-data', ''))

    @staticmethod
    def _require(code: int) -> None:
        if code:
            raise AssertionError(f'the guest says {code:#x}')


def start_once(guest: guest_lib.Guest) -> None:
    """Start a guest so that libvirt makes its files, and stop it.

    Paused, it writes to none of them.
    """
    with guest.domain() as domain:
        domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        domain.destroy()


def beside(
    libvirtd: libvirtd_lib.Libvirtd, command: Sequence[str]
) -> list[str]:
    """Return a command line that sees the files of libvirt as libvirtd does.

    On a host that is not shared every program does.
    """
    return [
        # The root, too: in a chroot it is not that of the mount namespace.
        *('nsenter', '--mount', '--root', '--target', str(libvirtd.pid())),
        *(f'--wd={os.getcwd()}', *command),
    ]


def elements(xml: str) -> list[str]:
    """Return the lines of a definition about firmware and TPM."""
    words = '<os', '<loader', '<nvram', '<tpm', '<backend'
    return [
        line.strip()
        for line in xml.splitlines()
        if line.strip().startswith(words)
    ]


def _variable(number: int) -> str:
    return f'{VARIABLES}/NovaSnap{number:02}-{VENDOR}'


def _framed(tag: int, command: int, rest: bytes) -> bytes:
    return struct.pack('>HII', tag, 10 + len(rest), command) + rest


#: An empty password.
_SESSION = struct.pack('>IIHBH', 9, _PASSWORD, 0, 0, 0)


def _define_space(number: int) -> bytes:
    public = struct.pack(
        '>IHIHH', _FIRST_INDEX + number, _SHA256, _NV_ATTRIBUTES, 0, _SIZE
    )
    rest = struct.pack('>I', _OWNER) + _SESSION
    rest += struct.pack('>HH', 0, len(public)) + public
    return _framed(_SESSIONS, _DEFINE_SPACE, rest)


def _nv_write(number: int) -> bytes:
    index = struct.pack('>II', _OWNER, _FIRST_INDEX + number)
    data = b'nova-snap-tpm-%02d' % number
    rest = index + _SESSION + struct.pack('>H', _SIZE) + data
    return _framed(_SESSIONS, _NV_WRITE, rest + struct.pack('>H', 0))
