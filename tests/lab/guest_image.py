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

"""The kernel and the initramfs that the lab's guests boot.

Built once and kept in the cache: Debian's cloud kernel (downloaded, not
installed), busybox, the program of ``tick.c``, and the QEMU guest agent of
this host with its libraries.  Open this file when a guest lacks a driver or a
program; what it does once it runs is in ``init.sh`` and ``tick.c``.
"""

import dataclasses
import hashlib
import lzma
import os
import pathlib
import shutil
import tempfile

from tests.lab import command
from tests.lab import paths

HERE = pathlib.Path(__file__).parent
SOURCES = ('guest_image.py', 'init.sh', 'tick.c')
BUSYBOX = ('/bin/busybox', '/usr/bin/busybox')
AGENT = '/usr/sbin/qemu-ga'

#: What each word of the command line (``bus=``, ``agent=1``) has to load.
MODULES = {
    'virtio': ('virtio_pci', 'virtio_blk'),
    'scsi': ('virtio_pci', 'virtio_scsi', 'sd_mod'),
    'ide': ('ata_piix', 'sd_mod'),
    'agent': ('virtio_pci', 'virtio_console'),
    'uefi': ('efivarfs',),
}


@dataclasses.dataclass(frozen=True)
class GuestImage:
    """What QEMU boots directly: no boot loader, nothing on the disk."""

    kernel: pathlib.Path
    initrd: pathlib.Path


def get() -> GuestImage:
    """Return the image from the cache; build it if sources changed.

    :raises CommandFailed: a package is missing or can't be downloaded.
    """
    directory = paths.cache() / f'guest-{_fingerprint()}'
    with paths.locked('guest'):
        if not directory.exists():
            with tempfile.TemporaryDirectory(dir=paths.cache()) as work:
                built = _build(pathlib.Path(work))
                os.rename(built, directory)
    return GuestImage(directory / 'vmlinuz', directory / 'initrd')


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update((HERE / name).read_bytes())
    return digest.hexdigest()[:12]


def _build(work: pathlib.Path) -> pathlib.Path:
    kernel = _kernel_tree(work)
    (version,) = os.listdir(kernel / 'lib/modules')
    command.run('depmod', '-b', kernel, version)
    result = work / 'result'
    result.mkdir()
    shutil.copy(kernel / f'boot/vmlinuz-{version}', result / 'vmlinuz')
    tree = work / 'tree'
    _add_programs(tree)
    _add_agent(tree)
    _add_modules(tree, kernel, version)
    _pack(tree, result / 'initrd')
    return result


def _kernel_tree(work: pathlib.Path) -> pathlib.Path:
    try:
        _download_kernel(work)
    except (command.CommandFailed, IndexError):
        # The package lists are missing, or older than the archive.
        command.run('apt-get', 'update')
        _download_kernel(work)
    (package,) = work.glob('*.deb')
    kernel = work / 'kernel'
    command.run('dpkg-deb', '-x', package, kernel)
    if not (kernel / 'lib').exists():
        # Debian 13's modules are below usr/lib.  depmod and modprobe look
        # where their own package puts modules, which the link serves, too.
        (kernel / 'lib').symlink_to('usr/lib')
    return kernel


def _download_kernel(work: pathlib.Path) -> None:
    lines = command.run(
        'apt-cache', 'depends', 'linux-image-cloud-amd64'
    ).stdout.splitlines()
    names = [line.split()[-1] for line in lines if 'Depends: linux-' in line]
    command.run(
        'apt-get',
        # The user _apt may not write here.
        '--option=APT::Sandbox::User=root',
        'download',
        names[0],
        cwd=work,
    )


def _add_programs(tree: pathlib.Path) -> None:
    for name in ('bin', 'dev', 'proc', 'sys', 'mnt', 'usr/sbin'):
        (tree / name).mkdir(parents=True)
    busybox = next(path for path in BUSYBOX if os.path.exists(path))
    shutil.copy(busybox, tree / 'bin/busybox')
    shutil.copy(HERE / 'init.sh', tree / 'init')
    (tree / 'init').chmod(0o755)
    command.run(
        'gcc', '-static', '-O2', '-o', tree / 'bin/tick', HERE / 'tick.c'
    )


def _add_agent(tree: pathlib.Path) -> None:
    shutil.copy(AGENT, tree / 'usr/sbin/qemu-ga')
    for line in command.run('ldd', AGENT).stdout.splitlines():
        for word in line.split():
            if word.startswith('/'):
                _copy_library(pathlib.Path(word), tree)


def _copy_library(library: pathlib.Path, tree: pathlib.Path) -> None:
    target = tree / library.relative_to('/')
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(library, target)


def _add_modules(
    tree: pathlib.Path, kernel: pathlib.Path, version: str
) -> None:
    """Copy the modules, and the order in which each purpose loads them.

    The order is modprobe's: in another one no disk appears.
    """
    target = tree / 'lib/modules'
    target.mkdir(parents=True)
    for purpose, modules in MODULES.items():
        order: list[str] = []
        for module in modules:
            for path in _with_dependencies(module, kernel, version):
                name = path.name.removesuffix('.xz')
                (target / name).write_bytes(_module(path))
                if name not in order:
                    order.append(name)
        text = ''.join(f'{name}\n' for name in order)
        (target / f'order.{purpose}').write_text(text)


def _module(path: pathlib.Path) -> bytes:
    """Read a kernel module, which Debian 13 compresses."""
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == '.xz' else data


def _with_dependencies(
    module: str, kernel: pathlib.Path, version: str
) -> list[pathlib.Path]:
    output = command.run(
        *('modprobe', '-d', kernel, '-S', version),
        *('--show-depends', module),
    ).stdout
    words = [line.split() for line in output.splitlines()]
    return [pathlib.Path(word[1]) for word in words if word[0] == 'insmod']


def _pack(tree: pathlib.Path, target: pathlib.Path) -> None:
    """Make the archive; not compressed, as an emulated CPU unpacks it."""
    names = sorted(str(path.relative_to(tree)) for path in tree.rglob('*'))
    command.run(
        *('cpio', '--quiet', '-o', '-H', 'newc', '-F', target),
        cwd=tree,
        stdin=''.join(f'{name}\n' for name in names),
    )
