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

"""What Cinder's NFS driver and Nova take for NFS, on one host without it.

The share is a small file system in a file.  A ``mount`` that is found before
the real one, by those that are started with :attr:`Share.programs` first on
PATH, makes ``mount -t nfs`` a bind mount of it.
"""

from tests.lab import cinder as cinder_lib
from tests.lab import command
from tests.lab import libvirtd as libvirtd_lib

EXPORT = '127.0.0.1:/share'

GIB = 1 << 30

MOUNT = """\
#!/bin/sh
for last; do :; done
if [ "$1 $2" = '-t nfs' ]; then
    exec /bin/mount --bind '{share}' "$last"
fi
exec /bin/mount "$@"
"""


class Share:
    """The share; all of it lies where guests of a libvirtd see it.

    :ivar path: where its files are.
    :ivar nova: where Nova may mount it; libvirt sees what is mounted there.
    """

    def __init__(self, libvirtd: libvirtd_lib.Libvirtd) -> None:
        self.path = libvirtd.mounts / 'share'
        self.nova = libvirtd.mounts / 'nova'
        self.programs = libvirtd.state / 'bin'
        self._cinder = libvirtd.mounts / 'cinder'
        self._shares = libvirtd.state / 'nfs-shares'
        self._image = libvirtd.state / 'share.img'

    @property
    def backend(self) -> cinder_lib.Backend:
        """For Cinder; qcow2 files, for raw ones can't be snapshot."""
        return cinder_lib.Backend(
            'nfs',
            {
                'volume_driver': 'cinder.volume.drivers.nfs.NfsDriver',
                'nfs_shares_config': self._shares,
                'nfs_mount_point_base': self._cinder,
                'nfs_snapshot_support': 'true',
                'nfs_qcow2_volumes': 'true',
                'nas_secure_file_operations': 'false',
                'nas_secure_file_permissions': 'false',
            },
            self.programs,
        )

    def start(self) -> None:
        """Make it."""
        for folder in (self.path, self.nova, self._cinder, self.programs):
            folder.mkdir(parents=True, exist_ok=True)
        with open(self._image, 'wb') as file:
            file.truncate(8 * GIB)
        command.run('mkfs.ext4', '-q', '-F', self._image)
        command.run('mount', '-o', 'loop', self._image, self.path)
        self._shares.write_text(f'{EXPORT}\n')
        self._write_program('mount', MOUNT.format(share=self.path))
        # Its version is asked for.
        self._write_program('mount.nfs', '#!/bin/sh\n')

    def stop(self) -> None:
        """Unmount it everywhere; the files go with it."""
        for folder in (self._cinder, self.nova):
            for point in folder.iterdir():
                command.run('umount', '--lazy', point, accept=(0, 32))
        command.run('umount', '--lazy', self.path)
        for name in ('mount', 'mount.nfs'):
            (self.programs / name).unlink()
        self._image.unlink()

    def _write_program(self, name: str, text: str) -> None:
        path = self.programs / name
        path.write_text(text)
        path.chmod(0o755)
