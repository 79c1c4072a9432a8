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

"""The ways of taking a snapshot that are measured, and their configuration."""

import dataclasses
import enum
import pathlib

from tests.lab import accelerator
from tests.lab import glance as glance_lib
from tests.lab import libvirtd as libvirtd_lib
from tools.bench import glance_options

HERE = pathlib.Path(__file__).parent
TOP = HERE.parent.parent

OWN_CONF = """\
[DEFAULT]
state_path = {state}
[libvirt]
connection_uri = {uri}
snapshots_directory = {snapshots}
snapshot_compression = {compressed}
[snapshot]
image_service = glance
live_method = {live_method}
compression = off
compression_type = {compression}
reserved_space_mb = 0
[glance]
auth_type = none
endpoint_override = {glance}
"""

NOVA_CONF = """\
[DEFAULT]
state_path = {state}
instances_path = {state}
use_stderr = false
log_file = {state}/nova.log
[libvirt]
connection_uri = {uri}
virt_type = {virt_type}
snapshots_directory = {snapshots}
snapshot_compression = {compressed}
[glance]
api_servers = {glance}
[oslo_concurrency]
lock_path = {state}/locks
[nova_sys_admin]
helper_command = {privsep} --config-file {config}
"""

VIRTNBDBACKUP_CONF = """\
[virtnbdbackup]
uri = {uri}
scratch = {snapshots}
output = {state}/backup
compressed = {compressed}
"""


class Program(enum.Enum):
    """What takes the snapshot: its environment and its script."""

    OWN = ('.venv', 'own_worker.py')
    NOVA = ('.lab/nova', 'nova_worker.py')
    VIRTNBDBACKUP = ('.venv', 'virtnbdbackup_worker.py')


CONFIGURATIONS = {
    Program.OWN: OWN_CONF,
    Program.NOVA: NOVA_CONF,
    Program.VIRTNBDBACKUP: VIRTNBDBACKUP_CONF,
}


@dataclasses.dataclass(frozen=True)
class Method:
    """A way of taking a snapshot.

    :ivar live_method: this project's; None for another program.
    :ivar compression: zstd, zlib or lz4; None for none.
    :ivar options: further lines of the configuration.
    :ivar glance: the options of Glance, a name of ``glance_options.ALL``.
    """

    name: str
    program: Program = Program.OWN
    live_method: str | None = None
    compression: str | None = None
    options: str = ''
    glance: str = glance_options.DEFAULT

    @property
    def python(self) -> pathlib.Path:
        """The interpreter whose environment has it."""
        return TOP / self.program.value[0] / 'bin/python'

    @property
    def makes_image(self) -> bool:
        """Whether it ends with an image in Glance, not with a local file."""
        return self.program is not Program.VIRTNBDBACKUP

    def command(self, config: pathlib.Path) -> list[str]:
        """Return the command line of a process that takes one snapshot."""
        script = HERE / self.program.value[1]
        return [str(self.python), str(script), str(config)]

    def write_config(
        self,
        state: pathlib.Path,
        libvirtd: libvirtd_lib.Libvirtd,
        glance: glance_lib.Glance,
        **values: object,
    ) -> pathlib.Path:
        """Write its configuration; temporary files go to state/snapshots.

        :param values: what ``options`` name.
        """
        path = state / 'worker.conf'
        text = CONFIGURATIONS[self.program] + self.options
        path.write_text(
            text.format(
                state=state,
                snapshots=state / 'snapshots',
                uri=libvirtd.uri,
                glance=glance.url,
                live_method=self.live_method,
                compressed=self.compression is not None,
                compression=self.compression or 'zstd',
                virt_type=accelerator.virt_type(),
                privsep=self.python.with_name('privsep-helper'),
                config=path,
                **values,
            )
        )
        return path


def _own(
    name: str, live_method: str, compression: str | None = None
) -> Method:
    return Method(name, Program.OWN, live_method, compression)


#: In the order in which they are measured.
METHODS = {
    method.name: method
    for method in (
        Method('nova', Program.NOVA),
        _own('mirror', 'mirror'),
        _own('pull', 'pull'),
        _own('pull-zstd', 'pull', 'zstd'),
        _own('pull-zlib', 'pull', 'zlib'),
        Method('virtnbdbackup', Program.VIRTNBDBACKUP),
        Method('virtnbdbackup-lz4', Program.VIRTNBDBACKUP, compression='lz4'),
        Method('nova-compressed', Program.NOVA, compression='zlib'),
        _own('mirror-compressed', 'mirror', 'zlib'),
    )
}

#: What is measured where nothing is said: mirror with compression is the same
#: qemu-img call as Nova's.
DEFAULT = [name for name in METHODS if name != 'mirror-compressed']
