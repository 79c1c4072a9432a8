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

"""Backing chains that are read from headers, and what a header may name.

libvirt reports the chain of a guest that runs; of one that is shut off it
reports what the definition names, mostly the topmost layer alone.  The header
of a disk file has been written by whoever made the file, and this process may
be able to read every file of the host.  Open this file to change which files
a header may name.
"""

from collections.abc import Iterator
import dataclasses
import os
import pathlib
import stat

from nova_snap import exception
from nova_snap.virt.storage import backing_name
from nova_snap.virt.storage import disk_source as storage
from nova_snap.virt.storage import qemu_img

#: Layers of a disk; libvirt allows as many.
MAX_LAYERS = 200

#: Formats of which a header may say that its backing file has them.  A VMDK
#: file, for one, can be a text that names any file of the host as its data.
FORMATS = ('luks', 'qcow2', 'raw', 'vdi', 'vhdx', 'vpc')


@dataclasses.dataclass(frozen=True)
class Reader:
    """Reader of the layers that only headers name.

    Such a layer has to be an ordinary file in the folder of a layer that
    libvirt names, or in one of ``directories`` or a folder below.
    """

    directories: tuple[pathlib.Path, ...] = ()

    def completed(self, source: storage.DiskSource) -> storage.DiskSource:
        """Return the disk with all layers, read from headers if need be.

        :raises UnsafeDisk: a header names no format, or a file that it may
            not name, or there are too many layers.
        :raises ProgramFailed: a header can't be read.
        """
        layers = list(source.layers())
        folders = _folders(layers)
        while (below := self._below(layers[-1], folders)) is not None:
            if any(below.location == layer.location for layer in layers):
                raise _unsafe(
                    layers[-1],
                    f'its backing file {below.location} is above '
                    'it, too: its backing chain is a loop.',
                )
            if len(layers) == MAX_LAYERS:
                raise _unsafe(source, f'it has more than {MAX_LAYERS} layers.')
            layers.append(below)
        return _stacked(layers)

    def _below(
        self, layer: storage.DiskSource, folders: frozenset[pathlib.Path]
    ) -> storage.DiskSource | None:
        """Return the layer that the header of a layer names, or None."""
        if layer.is_chain_known or layer.format == 'raw':
            return None
        header = qemu_img.info(layer)
        if header.is_encrypted and layer.encryption_secret is None:
            raise _unsafe(
                layer,
                'it is encrypted, and the definition of the server names no '
                'secret for it.',
            )
        if header.backing_file is None:
            return None
        name = _path(layer, header.backing_file, header.backing_format)
        self._require_ordinary(layer, name)
        self._require_allowed(layer, name, folders)
        return storage.DiskSource(
            type='file',
            format=header.backing_format or '',
            # What was looked at, wherever a link points to by then.
            location=os.path.realpath(name),
            is_chain_known=False,
        )

    @staticmethod
    def _require_ordinary(layer: storage.DiskSource, name: str) -> None:
        try:
            mode = os.stat(name).st_mode
        except OSError as error:
            raise _unsafe(
                layer, f'its backing file {name}: {error.strerror}.'
            ) from error
        if not stat.S_ISREG(mode):
            raise _unsafe(
                layer,
                f'its backing file {name} is no ordinary file, and only the '
                "server's definition may name such a layer, in a "
                '<backingStore>.',
            )

    def _require_allowed(
        self,
        layer: storage.DiskSource,
        name: str,
        folders: frozenset[pathlib.Path],
    ) -> None:
        path = pathlib.Path(os.path.realpath(name))
        if path.parent in folders:
            return
        if any(
            path.is_relative_to(os.path.realpath(directory))
            for directory in self.directories
        ):
            return
        raise _unsafe(
            layer,
            f'only its header says that {name} is its backing file, and that '
            'is neither in the folder of the disk nor in [snapshot] '
            'backing_file_directories. If it is right, add its folder there, '
            "or name it in a <backingStore> of the server's definition.",
        )


def _folders(layers: list[storage.DiskSource]) -> frozenset[pathlib.Path]:
    """Return the folders of layers, without links."""
    return frozenset(
        pathlib.Path(folder)
        for layer in layers
        if layer.type == 'file' and isinstance(layer.location, str)
        for folder in _both(layer.location)
    )


def _both(path: str) -> Iterator[str]:
    """Yield the folder of a path, and that of what it is a link to."""
    yield os.path.realpath(os.path.dirname(path))
    yield os.path.dirname(os.path.realpath(path))


def _path(
    layer: storage.DiskSource, name: str, backing_format: str | None
) -> str:
    """Return the path of a backing file, if a header may name its format."""
    if not backing_format:
        raise _unsafe(
            layer,
            f'it does not record the format of its backing file {name}; '
            'record it with "qemu-img rebase -u -b FILE -F FORMAT" while the '
            'server is shut off',
        )
    if backing_format not in FORMATS:
        raise _unsafe(
            layer,
            f'it says that the format of its backing file {name} is '
            f'{backing_format!r}; {", ".join(FORMATS)} are supported.',
        )
    path = backing_name.path(name, backing_format)
    if path is None or not os.path.isabs(path):
        raise _unsafe(
            layer, f'its backing file {name!r} is not a file of this host.'
        )
    return path


def _stacked(layers: list[storage.DiskSource]) -> storage.DiskSource:
    """Return the topmost of these layers, each over the next."""
    *upper, found = layers
    found = dataclasses.replace(found, is_chain_known=True)
    for layer in reversed(upper):
        found = dataclasses.replace(layer, backing=found, is_chain_known=True)
    return found


def _unsafe(layer: storage.DiskSource, reason: str) -> exception.UnsafeDisk:
    return exception.UnsafeDisk(disk=layer.describe(), reason=reason)
