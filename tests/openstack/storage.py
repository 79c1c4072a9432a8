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

"""Where the volumes of the cloud's servers are kept: Ceph, or NFS."""

import abc
import pathlib
from typing import Self

from tests.lab import ceph as ceph_lib
from tests.lab import cinder as cinder_lib
from tests.lab import command
from tests.lab import nfs
from tests.lab import root_disk
from tests.lab import volumes as volumes_lib
from tests.openstack import cloud as cloud_lib


class Storage(abc.ABC):
    """Runs while its block does.

    :param cloud: whose servers get volumes of it.
    """

    def __init__(self, cloud: cloud_lib.Cloud) -> None:
        self.directory = cloud.layout.folder('storage')

    @property
    @abc.abstractmethod
    def backend(self) -> cinder_lib.Backend:
        """How Cinder uses it."""

    @abc.abstractmethod
    def start(self) -> None:
        """Start it."""

    @abc.abstractmethod
    def stop(self) -> None:
        """End it; the volumes are lost."""

    @abc.abstractmethod
    def write_file_system(self, volume_id: str) -> None:
        """Give a new volume what a guest of the lab boots from."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


class Rbd(Storage):
    """Cinder takes the snapshots."""

    def __init__(self, cloud: cloud_lib.Cloud) -> None:
        super().__init__(cloud)
        self._ceph = ceph_lib.Ceph(cloud.layout.state / 'ceph')

    @property
    def backend(self) -> cinder_lib.Backend:
        """See the base."""
        return cinder_lib.rbd(self._ceph)

    def start(self) -> None:
        """See the base."""
        self._ceph.start([cinder_lib.POOL])

    def stop(self) -> None:
        """See the base."""
        self._ceph.stop()

    def write_file_system(self, volume_id: str) -> None:
        """See the base."""
        path = pathlib.Path(f'{cinder_lib.POOL}/volume-{volume_id}')
        volumes_lib.write_file_system(self._ceph, path, self.directory)


class Nfs(Storage):
    """Nova takes the snapshots of volumes that a server has."""

    def __init__(self, cloud: cloud_lib.Cloud) -> None:
        super().__init__(cloud)
        self.share = nfs.Share(cloud.libvirtd)

    @property
    def backend(self) -> cinder_lib.Backend:
        """See the base."""
        return self.share.backend

    def start(self) -> None:
        """See the base."""
        self.share.start()

    def stop(self) -> None:
        """See the base."""
        self.share.stop()

    def write_file_system(self, volume_id: str) -> None:
        """See the base."""
        raw = root_disk.make(
            self.directory, root_disk.Kind.RAW, name=volume_id
        )
        command.run(
            *('qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'qcow2'),
            *(raw.path, self.share.path / f'volume-{volume_id}'),
        )
        raw.remove()
