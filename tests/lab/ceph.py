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

"""A Ceph of one monitor, one manager and one OSD.

Open this file when a volume's bytes are not where they should be; what Cinder
does with them is in ``cinder.py``.  The programs are Debian's.
"""

from collections.abc import Mapping
import json
import pathlib
import shutil
import socket
import time
from typing import Any
import uuid

from tests.lab import command
from tests.lab import daemon

GIB = 1 << 30

#: Bytes that the sparse file of the OSD may grow to.
SIZE = 8 * GIB

#: Seconds.
READY_TIMEOUT = 120.0

CONFIGURATION = """\
[global]
fsid = {fsid}
mon_host = [v2:{address}:{v2},v1:{address}:{v1}]
public_addr = {address}
cluster_addr = {address}
ms_bind_ipv6 = false
auth_cluster_required = {auth}
auth_service_required = {auth}
auth_client_required = {auth}
keyring = {directory}/keyring
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
run_dir = {directory}
crash_dir = {directory}
admin_socket = {directory}/$name.asok
log_file = {directory}/$name.log
[mon]
mon_data = {directory}/mon
mon_cluster_log_file = {directory}/cluster.log
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
mon_data_avail_warn = 3
mon_data_avail_crit = 1
mgr_initial_modules =
paxos_propose_interval = .05
paxos_min_wait = .02
[mgr]
mgr_data = {directory}/mgr
[osd]
osd_data = {directory}/osd
osd_objectstore = bluestore
bluestore_block_create = true
bluestore_block_size = {size}
bluestore_block_db_create = false
bluestore_block_wal_create = false
bluestore_cache_autotune = false
bluestore_cache_size = 67108864
osd_memory_target = 939524096
osd_op_num_shards = 2
osd_op_num_threads_per_shard = 1
[client]
rbd_default_features = 61
"""


class Ceph:
    """The three daemons; nothing of it outlives them.

    :param directory: a short path, for the sockets; made anew.
    :param users: what clients may do besides ``client.admin``, by name and
        daemon; with users, a client needs a key.
    :param address: of the daemons, in the network of the thread that starts
        them.
    :param size: bytes that the sparse file of the OSD may grow to.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        users: Mapping[str, Mapping[str, str]] | None = None,
        address: str = '127.0.0.1',
        size: int = SIZE,
    ) -> None:
        self.directory = directory
        self.address = address
        self._size = size
        self._users = users or {}
        self.conf = directory / 'ceph.conf'
        self.port = 0
        self._fsid = str(uuid.uuid4())
        self.monitor = daemon.Daemon(directory / 'mon.out')
        self.manager = daemon.Daemon(directory / 'mgr.out')
        self.osd = daemon.Daemon(directory / 'osd.out')

    def start(self, pools: list[str]) -> None:
        """Return once the pools can be written to.

        :raises DaemonFailed, CommandFailed: with the reason.
        """
        for name in ('mon', 'mgr', 'osd'):
            (self.directory / name).mkdir(parents=True)
        self._configure()
        self._start_monitor()
        self._daemon(self.manager, 'ceph-mgr', 'x')
        self._start_osd()
        for pool in pools:
            self.ceph('osd', 'pool', 'create', pool, '8', '8', 'replicated')
            self.ceph('osd', 'pool', 'application', 'enable', pool, 'rbd')
        self._wait_until_clean()

    def stop(self) -> None:
        """End the daemons and delete all they had."""
        for server in (self.osd, self.manager, self.monitor):
            server.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def ceph(self, *arguments: str) -> str:
        """Run ``ceph``; what it printed."""
        argv = ['ceph', '--connect-timeout', '60', '-c', str(self.conf)]
        return command.run(*argv, *arguments).stdout

    def key(self, user: str) -> str:
        """Return the key of a user."""
        keyring = self.directory / 'keyring'
        argv = 'ceph-authtool', keyring, '-p', '-n', f'client.{user}'
        return command.run(*argv).stdout.strip()

    def rbd(self, *arguments: str | pathlib.Path) -> str:
        """Run ``rbd``; what it printed."""
        return command.run('rbd', '-c', self.conf, *arguments).stdout

    def _configure(self) -> None:
        self.port, v2 = _free_ports(2)
        self.conf.write_text(
            CONFIGURATION.format(
                fsid=self._fsid,
                directory=self.directory,
                v1=self.port,
                v2=v2,
                size=self._size,
                address=self.address,
                auth='cephx' if self._users else 'none',
            )
        )
        # Where nobody logs in, the programs want a key all the same.
        keyring = self.directory / 'keyring'
        command.run('ceph-authtool', '-C', keyring, '--gen-key', '-n', 'mon.')
        command.run('ceph-authtool', keyring, '-n', 'mon.', *_caps(mon='*'))
        for name, caps in {
            'client.admin': _caps(mon='*', mgr='*', osd='*'),
            'mgr.x': _caps(mon='profile mgr', osd='*', mds='*'),
            'osd.0': _caps(mon='profile osd', mgr='profile osd', osd='*'),
            **{
                f'client.{name}': _caps(**caps)
                for name, caps in self._users.items()
            },
        }.items():
            command.run(
                *('ceph-authtool', keyring, '--gen-key', '-n', name, *caps)
            )
        self._v2 = v2

    def _start_monitor(self) -> None:
        monmap = self.directory / 'monmap'
        address = (
            f'[v2:{self.address}:{self._v2},v1:{self.address}:{self.port}]'
        )
        command.run(
            *('monmaptool', '--create', '--fsid', self._fsid),
            *('--addv', 'a', address, monmap),
        )
        command.run(
            *('ceph-mon', '-c', self.conf, '--mkfs', '-i', 'a'),
            *('--monmap', monmap, '--keyring', self.directory / 'keyring'),
        )
        self._daemon(self.monitor, 'ceph-mon', 'a')
        self.ceph('mon', 'stat')

    def _start_osd(self) -> None:
        identity = str(uuid.uuid4())
        self.ceph('osd', 'new', identity, '0')
        command.run(
            *('ceph-osd', '-c', self.conf, '-i', '0', '--mkfs'),
            *('--osd-uuid', identity, '--no-mon-config'),
        )
        self._daemon(self.osd, 'ceph-osd', '0')
        self.osd.wait_until(
            lambda: '"num_up_osds":1' in self.ceph('osd', 'stat', '-f', 'json')
        )

    def _daemon(self, server: daemon.Daemon, program: str, name: str) -> None:
        path = shutil.which(program, path='/usr/bin:/usr/sbin')
        # -f: in the foreground, so that it is ours to end.
        server.start([path or program, '-f', '-c', self.conf, '-i', name])

    def _wait_until_clean(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT
        while True:
            found = _first_object(self.ceph('pg', 'stat', '-f', 'json'))
            states = found.get('pg_summary', found).get('num_pg_by_state')
            if states and {s['name'] for s in states} == {'active+clean'}:
                return
            if time.monotonic() > deadline:
                raise daemon.DaemonFailed(f'Ceph: {states}')
            time.sleep(0.1)


def _caps(**caps: str) -> list[str]:
    """Return the arguments of ceph-authtool for what somebody may do."""
    return [
        word
        for daemon_kind, what in caps.items()
        for word in (
            '--cap',
            daemon_kind,
            what if what.startswith('profile rbd') else f'allow {what}',
        )
    ]


def _first_object(text: str) -> dict[str, Any]:
    """Return the JSON in ceph's output, which may have warnings."""
    start = text.index('{')
    found: dict[str, Any] = json.JSONDecoder().raw_decode(text[start:])[0]
    return found


def _free_ports(count: int) -> list[int]:
    listeners = [
        socket.create_server(('127.0.0.1', 0)) for _number in range(count)
    ]
    try:
        return [listener.getsockname()[1] for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()
