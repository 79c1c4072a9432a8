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

"""New files of a domain snapshot or a revert.

They are made here, and libvirt uses them: so it is known which files are ours,
whenever one of the processes ends.  Open this file for how they get their
names.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import os
import pathlib
from typing import Any
import uuid

from nova_snap import exception
from nova_snap import journal
from nova_snap.virt.libvirt.snapshots import undo_steps
from nova_snap.virt.storage import disk_source as storage
from nova_snap.virt.storage import open_files
from nova_snap.virt.storage import qemu_img


@dataclasses.dataclass(frozen=True)
class Overlay:
    """An empty qcow2 file of ``size`` bytes over the topmost layer below."""

    size: int
    below: storage.DiskSource


@contextlib.contextmanager
def made(
    entry: journal.Entry,
    files: Mapping[pathlib.Path, Overlay | None],
    ran: bool,
) -> Iterator[None]:
    """Make new files for the block; after it, unused ones are removed.

    A file gets its name when its identity is in the journal.  Until then it
    has a name that nobody else has.

    :param files: None makes an empty file, for memory.
    :param ran: the guest runs, and has to afterwards.
    :raises SnapshotFailed: another program has made a file of that name.
    """
    mark = f'{uuid.uuid4()}.new'
    temporary = {
        path: path.with_name(f'{mark}{number}')
        for number, path in enumerate(files)
    }
    unnamed = _step(dict.fromkeys(temporary.values()), ran)
    with entry.undoing(unnamed):
        for path, overlay in files.items():
            _make(temporary[path], overlay)
        identities = {
            path: open_files.identity(str(name))
            for path, name in temporary.items()
        }
        with entry.undoing(_step(identities, ran)):
            for path, name in temporary.items():
                _name(name, path)
            yield


def _step(
    files: Mapping[pathlib.Path, open_files.Identity | None], ran: bool
) -> undo_steps.RemoveUnusedFiles:
    listed: list[dict[str, Any]] = [
        {'path': str(path), 'identity': identity and list(identity)}
        for path, identity in files.items()
    ]
    return undo_steps.RemoveUnusedFiles(listed, ran)


def _make(path: pathlib.Path, overlay: Overlay | None) -> None:
    """Make an empty overlay, or an empty file.

    libvirt makes QEMU's user the owner when QEMU opens it.
    """
    if overlay is None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        os.close(os.open(path, flags, 0o600))
        return
    top = dataclasses.replace(overlay.below, backing=None)
    qemu_img.create_delta(path, overlay.size, top)


def _name(temporary: pathlib.Path, path: pathlib.Path) -> None:
    """Give a file its name, unless another file has it.

    :raises SnapshotFailed: another program has made a file of that name.
    """
    try:
        os.link(temporary, path)
    except OSError as error:
        raise exception.SnapshotFailed(
            f'The file {path} cannot be made: {error.strerror}.'
        ) from error
    os.unlink(temporary)
