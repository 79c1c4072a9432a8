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

"""nova-compute: the one server that the tests start again and again."""

import os
import pathlib

from tests.lab import libvirtd as libvirtd_lib
from tests.lab import nfs
from tests.openstack import conf
from tests.openstack import environment
from tests.openstack import gates as gates_lib
from tests.openstack import layout as layout_lib
from tests.openstack import mode as mode_lib
from tests.openstack import nova as nova_lib

#: Nova logs it when all of its start is behind it and it takes requests.
READY = 'Join ServiceGroup membership for this service compute'

#: What stands first on nova-compute's PYTHONPATH: see there.
INJECT = pathlib.Path(__file__).parent / 'inject'


class Compute:
    """The compute host.

    :param image_url: where it reaches Glance, a proxy say.
    :ivar mode: the one that it runs in; None before the first start.
    :ivar gates: stop a snapshot at a step.
    """

    def __init__(
        self,
        layout: layout_lib.Layout,
        libvirtd: libvirtd_lib.Libvirtd,
        nova: nova_lib.Nova,
        image_url: str,
    ) -> None:
        self._layout = layout
        self._libvirtd = libvirtd
        self._nova = nova
        self._image_url = image_url
        self._config = layout.etc / 'nova/nova-compute.conf'
        self.log = layout.log / 'nova-compute.log'
        self.daemon = layout.daemon('nova-compute')
        self.gates = gates_lib.Gates(layout.folder('gates'))
        self.mode: mode_lib.Mode | None = None

    def run(self, mode: mode_lib.Mode) -> None:
        """Let it run in this mode; restarted where it runs in another.

        It is killed: in order it ends within 20 s, with nothing to do.
        """
        if mode != self.mode or self.daemon.pid is None:
            self.kill()
            self.start(mode)

    def start(self, mode: mode_lib.Mode | None = None) -> None:
        """Start it and wait until it takes requests.

        :param mode: None is the one that it had.
        :raises DaemonFailed: it ended, or took too long.
        """
        self.mode = mode or self.mode
        assert self.mode is not None
        conf.write(self._config, self._host(), self.mode.sections())
        begin = self.log_size()
        self.daemon.start(
            [environment.program('nova-compute')]
            + ['--config-file', self._nova.config]
            + ['--config-file', self._config]
            + [f'--log-file={self.log}'],
            self._environment(),
        )
        self.daemon.wait_until(lambda: READY in self.log_since(begin))

    def kill(self) -> None:
        """Kill nova-compute and its children, as a service manager does."""
        self.daemon.kill()
        self.daemon.end_session()

    def log_size(self) -> int:
        """Return the current position in the log, for :meth:`log_since`."""
        return self.log.stat().st_size if self.log.exists() else 0

    def log_since(self, begin: int) -> str:
        """Return the log since a position."""
        if not self.log.exists():
            return ''
        with open(self.log, 'rb') as file:
            file.seek(begin)
            return file.read().decode(errors='replace')

    def _host(self) -> conf.Sections:
        return {
            'libvirt': {
                'connection_uri': self._libvirtd.uri,
                'virt_type': 'qemu',
                'cpu_mode': 'none',
                'images_type': 'qcow2',
                'nfs_mount_point_base': nfs.Share(self._libvirtd).nova,
            },
            'glance': {'endpoint_override': self._image_url},
        }

    def _environment(self) -> dict[str, str]:
        return {
            'PYTHONPATH': str(INJECT),
            gates_lib.VARIABLE: str(self.gates.folder),
            # As in a service of the host: only what is there for all.
            'PATH': os.pathsep.join(
                [str(nfs.Share(self._libvirtd).programs)]
                + [str(environment.root() / 'bin'), '/usr/sbin', '/usr/bin']
                + ['/sbin', '/bin']
            ),
        }
