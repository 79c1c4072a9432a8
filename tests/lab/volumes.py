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

"""Volumes of a real Cinder as disks of the lab's guests.

One lab serves a process: Ceph, Keystone, Cinder and Glance.  It starts with
the first test that asks for it and ends when the process does.
"""

from collections.abc import Mapping
from concurrent import futures
import dataclasses
import functools
import pathlib
import shutil
import time
from typing import Any

from tests.lab import ceph as ceph_lib
from tests.lab import cinder as cinder_lib
from tests.lab import command
from tests.lab import daemon
from tests.lab import glance as glance_lib
from tests.lab import keystone as keystone_lib
from tests.lab import root_disk

#: Seconds in which Cinder makes or deletes something.
TIMEOUT = 120.0

GIB = 1 << 30


class CinderFailed(Exception):
    """A volume or a snapshot did not become what it was waited for."""


@dataclasses.dataclass(frozen=True)
class RbdDisk(root_disk.RootDisk):
    """An RBD image as a disk of a guest.

    :ivar host: the address of Ceph's monitor.
    :ivar port: of the monitor.
    """

    host: str = '127.0.0.1'
    port: int = 0

    @property
    def source_xml(self) -> str:
        """The RBD image."""
        return (
            f"<source protocol='rbd' name='{self.path}'>"
            f"<host name='{self.host}' port='{self.port}'/></source>"
        )

    def remove(self) -> None:
        """Nothing: Ceph ends before its images do."""


@dataclasses.dataclass(frozen=True)
class VolumeDisk(RbdDisk):
    """A volume as a disk of a guest, as Nova attaches it."""

    volume_id: str = ''

    @property
    def source_xml(self) -> str:
        """The RBD image, and the volume's id as serial number."""
        return f'{super().source_xml}<serial>{self.volume_id}</serial>'

    def remove(self) -> None:
        """Nothing: the volume is Cinder's, and outlives its guest."""


class VolumeLab:
    """The servers, and what tests do with them as a user would.

    :param directory: a short path; made anew.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.ceph = ceph_lib.Ceph(directory / 'ceph')
        self.keystone = keystone_lib.Keystone(directory / 'keystone')
        self.cinder = cinder_lib.Cinder(
            directory / 'cinder', self.keystone, cinder_lib.rbd(self.ceph)
        )
        self.glance = glance_lib.Glance(directory / 'glance')

    def start(self) -> None:
        """Return once all answer.

        :raises DaemonFailed, CommandFailed, NotInstalled: with the reason.
        """
        self.directory.mkdir(parents=True)
        with futures.ThreadPoolExecutor() as pool:
            steps = [
                pool.submit(self.cinder.prepare),
                pool.submit(self.keystone.start),
                pool.submit(self.ceph.start, [cinder_lib.POOL]),
                pool.submit(self.glance.start),
            ]
            for step in steps:
                step.result()
        self.cinder.register()
        self.cinder.start()

    def stop(self) -> None:
        """End all, and delete what they had."""
        self.cinder.stop()
        self.glance.kill()
        self.keystone.stop()
        self.ceph.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    @functools.cached_property
    def client(self) -> Any:
        """Return cinderclient's client for a plain member of a project."""
        return self.cinder.client()

    @functools.cached_property
    def admin(self) -> Any:
        """Return cinderclient's client for the administrator."""
        return self.cinder.client('admin', 'admin')

    def make_disk(
        self,
        name: str,
        files: Mapping[str, bytes] | None = None,
        instance: str | None = None,
        image_metadata: Mapping[str, str] | None = None,
    ) -> VolumeDisk:
        """Make a volume of 1 GiB with a file system for a guest.

        :param instance: uuid of the guest that Cinder shall take it to be
            attached to; None leaves it ``available``.
        :param image_metadata: what Cinder keeps of an image.
        """
        volume = self.client.volumes.create(1, name=name, description='why')
        self.wait(self.client.volumes, volume.id, 'available')
        disk = self._disk(volume.id)
        write_file_system(self.ceph, disk.path, self.directory, files)
        if image_metadata is not None:
            self.client.volumes.set_image_metadata(volume, image_metadata)
        if instance is not None:
            self.client.volumes.reserve(volume)
            self.client.volumes.attach(volume, instance, '/dev/vda')
        return disk

    def disk_from_snapshot(self, snapshot_id: str) -> VolumeDisk:
        """Make a volume from a snapshot."""
        volume = self.client.volumes.create(1, snapshot_id=snapshot_id)
        self.wait(self.client.volumes, volume.id, 'available')
        return self._disk(volume.id)

    def remove(self, disk: VolumeDisk) -> None:
        """Delete a volume that no guest has."""
        self.client.volumes.delete(disk.volume_id)
        deadline = time.monotonic() + TIMEOUT
        while disk.volume_id in {v.id for v in self.client.volumes.list()}:
            if time.monotonic() > deadline:
                raise CinderFailed(f'{disk.volume_id} is not deleted')
            time.sleep(0.1)

    def export(self, disk: VolumeDisk, target: pathlib.Path) -> pathlib.Path:
        """Export the data of a volume to a raw file."""
        self.ceph.rbd('export', '--no-progress', str(disk.path), target)
        return target

    def snapshots(self, *disks: VolumeDisk) -> list[Any]:
        """All snapshots of some volumes that there are."""
        return [
            snapshot
            for disk in disks
            for snapshot in self.client.volume_snapshots.list(
                search_opts={'volume_id': disk.volume_id}
            )
        ]

    @staticmethod
    def wait(manager: Any, item_id: str, status: str) -> Any:
        """Wait for a status.

        :raises CinderFailed: it came to another, or not in time.
        """
        deadline = time.monotonic() + TIMEOUT
        while True:
            found = manager.get(item_id)
            if found.status == status:
                return found
            if 'error' in found.status or time.monotonic() > deadline:
                raise CinderFailed(f'{found}: {found.status}')
            time.sleep(0.1)

    def _disk(self, volume_id: str) -> VolumeDisk:
        return VolumeDisk(
            kind=root_disk.Kind.RAW,
            path=pathlib.Path(f'{cinder_lib.POOL}/volume-{volume_id}'),
            format='raw',
            source_type='network',
            volume_id=volume_id,
            port=self.ceph.port,
        )


def write_file_system(
    ceph: ceph_lib.Ceph,
    path: pathlib.Path,
    directory: pathlib.Path,
    files: Mapping[str, bytes] | None = None,
    size: int = 256 * root_disk.MIB,
) -> None:
    """Give an RBD image what a guest of the lab boots from.

    :param path: of the image, with its pool.
    :param directory: for what is made on the way.
    :param size: of the file system, in bytes.
    """
    raw = root_disk.make(
        directory / 'raw',
        root_disk.Kind.RAW,
        name=path.name,
        size=size,
        files=files,
    )
    command.run(
        *('qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'raw'),
        *(raw.path, f'rbd:{path}:conf={ceph.conf}'),
    )
    raw.remove()


@functools.cache
def shared_lab() -> VolumeLab:
    """Return the lab of this process; start it if need be."""
    return daemon.started_for_process('v', VolumeLab)
