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

"""The UEFI variables and the TPM state of a guest that does not run.

QEMU saves both with the memory of a guest, and puts them back from there.  Of
a guest without memory they are read from the files of libvirt, and kept in a
folder of ours.  Open this file for where libvirt has them, and for what of a
domain snapshot is found there.
"""

import base64
from collections.abc import Mapping
import contextlib
import dataclasses
import json
import os
import pathlib
import stat
from typing import Any
import zlib

from oslo_utils import units

from nova_snap import durable
from nova_snap import exception
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt.snapshots import metadata

#: Where libvirt (9.0, src/qemu/qemu_conf.c) has variables whose file the XML
#: does not name, and the states of emulated TPMs.
NVRAM_DIRECTORY = pathlib.Path('/var/lib/libvirt/qemu/nvram')
TPM_DIRECTORY = pathlib.Path('/var/lib/libvirt/swtpm')

#: The file of a TPM of each version that outlives a start; of swtpm (0.7).
TPM_FILES = {
    '1.2': pathlib.Path('tpm1.2/tpm-00.permall'),
    '2.0': pathlib.Path('tpm2/tpm2-00.permall'),
}

#: What is kept.
NVRAM, TPM = 'nvram', 'tpm'

#: Bytes of one file; QEMU has no larger flash memory.
MAX_SIZE = 64 * units.Mi

_SUFFIX = '.json'

#: By NVRAM and TPM: the path of a file, or its content.
Files = Mapping[str, str]
State = Mapping[str, str]


def files(guest: guest_lib.Guest, xml: str) -> Files:
    """Return the paths of what can be kept of a guest.

    :param xml: its definition.
    """
    found = {NVRAM: _nvram(xml), TPM: _tpm(guest, xml)}
    return {what: str(path) for what, path in found.items() if path}


def _nvram(xml: str) -> pathlib.Path | None:
    root = domain_xml.parse(xml)
    nvram = root.find('./os/nvram')
    if not domain_xml.has_uefi(xml) or domain_xml.nvram_format(xml) != 'raw':
        # A qcow2 file may have internal domain snapshots in it.
        return None
    source = None if nvram is None else nvram.find('source')
    if source is not None:
        path = source.get('file')
        return pathlib.Path(path) if path else None
    if nvram is not None and (nvram.text or '').strip():
        return pathlib.Path((nvram.text or '').strip())
    return NVRAM_DIRECTORY / f'{root.findtext("name", "")}_VARS.fd'


def _tpm(guest: guest_lib.Guest, xml: str) -> pathlib.Path | None:
    backend = domain_xml.parse(xml).find(
        "./devices/tpm/backend[@type='emulator']"
    )
    if backend is None or backend.find('source') is not None:
        return None
    file = TPM_FILES.get(backend.get('version', ''))
    return file and TPM_DIRECTORY / guest.uuid / file


def read(paths: Files) -> State:
    """Return the content of files, without those that can't be read."""
    found = {}
    for what, path in paths.items():
        with contextlib.suppress(OSError):
            found[what] = _packed(_content(pathlib.Path(path)))
    return found


def _content(path: pathlib.Path) -> bytes:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    with open(os.open(path, flags), 'rb') as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_SIZE:
            raise OSError(f'{path} is no file of this kind')
        return file.read(MAX_SIZE)


def write(paths: Files, state: State) -> None:
    """Replace the content of files; owner, mode and labels stay.

    The guest must not run.

    :raises SnapshotFailed: that is not possible; the file is as it was.
    """
    for what, packed in state.items():
        if what not in paths:
            continue
        try:
            _replace(pathlib.Path(paths[what]), _unpacked(packed))
        except OSError as error:
            raise exception.SnapshotFailed(
                f'{paths[what]} cannot be replaced: {error.strerror}.'
            ) from error


def _replace(path: pathlib.Path, content: bytes) -> None:
    temporary = path.with_name(f'.{path.name}.nova-snap')
    temporary.unlink(missing_ok=True)  # of a process that was killed
    with contextlib.suppress(FileNotFoundError):
        if _content(path) == content:
            return
    # An older file may have gone; libvirt makes its user the owner of that of
    # the variables, and of the folder of a TPM.
    model = path if path.exists() else path.parent
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(temporary, flags, 0o600), 'wb') as file:
            file.write(content)
            file.flush()
            found = model.stat()
            os.fchown(file.fileno(), found.st_uid, found.st_gid)
            if model == path:
                _copy_labels(path, file.fileno())
                os.fchmod(file.fileno(), stat.S_IMODE(found.st_mode))
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    durable.sync_directory(path.parent)


def _copy_labels(path: pathlib.Path, descriptor: int) -> None:
    for name in os.listxattr(path):
        if name.startswith(('security.', 'trusted.libvirt.')):
            os.setxattr(descriptor, name, os.getxattr(path, name))


def _packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode()


def _unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


def kept(
    store: 'Store | None', guest: guest_lib.Guest, found: metadata.Metadata
) -> State:
    """Return what is kept of a domain snapshot."""
    if store is None or found.created_at is None:
        return {}
    return store.find(guest, found.name, int(found.created_at.timestamp()))


@dataclasses.dataclass(frozen=True)
class Store:
    """What is kept of the domain snapshots of all guests, in a folder.

    A file says when libvirt took the domain snapshot, so that it is not taken
    for that of another one of the same name.
    """

    directory: pathlib.Path

    def _folder(self, guest: guest_lib.Guest) -> pathlib.Path:
        return self.directory / guest.uuid

    def _path(self, guest: guest_lib.Guest, name: str) -> pathlib.Path:
        return self._folder(guest) / f'{name}{_SUFFIX}'

    def keep(
        self,
        guest: guest_lib.Guest,
        name: str,
        state: State,
        created_at: int | None = None,
    ) -> None:
        """Keep the state of a guest.

        :param created_at: None: libvirt has not taken the domain snapshot yet.
        :raises SnapshotFailed: the file can't be written.
        """
        content = {'created_at': created_at, 'state': dict(state)}
        try:
            self._folder(guest).mkdir(mode=0o700, parents=True, exist_ok=True)
            durable.write(self._path(guest, name), json.dumps(content))
        except OSError as error:
            raise exception.SnapshotFailed(
                'The state of the firmware and the TPM cannot be kept in '
                f'{self.directory}: {error.strerror}.'
            ) from error

    def complete(
        self, guest: guest_lib.Guest, name: str, created_at: int
    ) -> None:
        """Note when libvirt has taken the domain snapshot."""
        found = self._read(guest, name)
        if found is not None and found['created_at'] is None:
            self.keep(guest, name, found['state'], created_at)

    def find(
        self, guest: guest_lib.Guest, name: str, created_at: int
    ) -> State:
        """Return what is kept of a domain snapshot."""
        found = self._read(guest, name)
        if found is None or found['created_at'] != created_at:
            return {}
        state: State = found['state']
        return state

    def prune(
        self, guest: guest_lib.Guest, created: Mapping[str, int]
    ) -> None:
        """Remove what is of domain snapshots that are gone.

        :param created: when libvirt has taken those that there are.
        """
        for path in self._folder(guest).glob(f'*{_SUFFIX}'):
            name = path.name.removesuffix(_SUFFIX)
            if not self.find(guest, name, created.get(name, -1)):
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._folder(guest).rmdir()

    def _read(
        self, guest: guest_lib.Guest, name: str
    ) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(
                self._path(guest, name).read_text()
            )
        except (OSError, ValueError):
            return None
        return found
