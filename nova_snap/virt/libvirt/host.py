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

"""The connection to libvirt: calls, errors, versions, lookup of guests.

Only this module, ``guest.py``, ``block_device.py`` and ``events.py`` use the
``libvirt`` package.  Every call goes through :meth:`Host.call`, which
translates errors, does not block eventlet's hub and, if asked to, retries
after a restart of the daemon.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import functools
import logging as python_logging
import threading
from typing import Any
from typing import TypeVar

import libvirt
from oslo_log import log as logging
import tenacity

from nova_snap import concurrency
from nova_snap import exception
from nova_snap.objects import host_details
from nova_snap.objects import power_state
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import events

LOG = logging.getLogger(__name__)

T = TypeVar('T')

#: Seconds for which a call that must succeed waits for libvirtd to come back.
RECONNECT_TIMEOUT = 60

#: Seconds between keep-alive messages, and how many may stay unanswered.
KEEPALIVE = (5, 6)

# Error codes of libvirt's client library when the daemon is gone.
_CONNECTION_CODES = {
    libvirt.VIR_ERR_SYSTEM_ERROR,
    libvirt.VIR_ERR_INTERNAL_ERROR,
    libvirt.VIR_ERR_NO_CONNECT,
    libvirt.VIR_ERR_INVALID_CONN,
    libvirt.VIR_ERR_RPC,
    libvirt.VIR_ERR_AUTH_FAILED,
    libvirt.VIR_ERR_AUTH_UNAVAILABLE,
}
_CONNECTION_DOMAINS = {
    libvirt.VIR_FROM_REMOTE,
    libvirt.VIR_FROM_RPC,
    libvirt.VIR_FROM_POLKIT,
    libvirt.VIR_FROM_AUTH,
}

#: Error codes of libvirt if QEMU ends meanwhile ("Unable to read from
#: monitor", "End of file from qemu monitor", "domain is no longer running").
HANGING_UP = (
    libvirt.VIR_ERR_SYSTEM_ERROR,
    libvirt.VIR_ERR_INTERNAL_ERROR,
    libvirt.VIR_ERR_OPERATION_FAILED,
)

#: Types of disks by the types of volumes.
_VOLUME_TYPES = {
    libvirt.VIR_STORAGE_VOL_FILE: 'file',
    libvirt.VIR_STORAGE_VOL_BLOCK: 'block',
}

Version = tuple[int, int, int]

#: libvirt that keeps or removes the state of an emulated TPM when undefining,
#: as it is asked to.
MIN_LIBVIRT_KEEP_TPM = (8, 9, 0)

_STATES = {
    libvirt.VIR_DOMAIN_NOSTATE: power_state.PowerState.NOSTATE,
    libvirt.VIR_DOMAIN_RUNNING: power_state.PowerState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: power_state.PowerState.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: power_state.PowerState.PAUSED,
    # A guest that is shutting down still runs, and may not shut down.
    libvirt.VIR_DOMAIN_SHUTDOWN: power_state.PowerState.RUNNING,
    libvirt.VIR_DOMAIN_SHUTOFF: power_state.PowerState.SHUTDOWN,
    libvirt.VIR_DOMAIN_CRASHED: power_state.PowerState.CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: power_state.PowerState.SUSPENDED,
}


def power_state_of(state: int) -> power_state.PowerState:
    """Return the power state for a state of libvirt."""
    return _STATES[state]


@dataclasses.dataclass(frozen=True)
class Reading:
    """What libvirt knows of a domain without asking its QEMU.

    ``state`` is libvirt's number; ``is_saved`` is True if the domain is shut
    off and has a file of saved memory.
    """

    xml: str = dataclasses.field(repr=False)
    state: int
    is_saved: bool


class Host:
    """One libvirt connection, made when it is first needed.

    :param uri: of libvirt, such as ``qemu:///system``.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.events = events.EventRecord()
        #: Number of the connection; earlier events may be missing.
        self.generation = 0
        self._connection: Any = None
        self._may_wait = False
        self._lock = threading.Lock()
        # By default the bindings print every error to standard error.
        libvirt.registerErrorHandler(lambda _context, _error: None, None)

    def call(
        self,
        action: str,
        function: Callable[[Any], T],
        insist: bool = False,
    ) -> T:
        """Call ``function(connection)``.

        :param action: a phrase for messages, such as "read its state".
        :param insist: if libvirtd is gone, retry for RECONNECT_TIMEOUT
            seconds.  Only for calls that may be repeated.  If libvirtd has
            never answered, or an earlier retry failed, there is no retry, as
            the end of a snapshot has several such calls.
        :raises HypervisorUnavailable: libvirt does not answer.
        :raises HypervisorError: the call failed; has libvirt's code.
        """
        if not insist or not self._may_wait:
            return self._call(action, function)
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(
                exception.HypervisorUnavailable
            ),
            wait=tenacity.wait_fixed(0.5),
            stop=tenacity.stop_after_delay(RECONNECT_TIMEOUT),
            before_sleep=tenacity.before_sleep_log(
                python_logging.getLogger(__name__), python_logging.WARNING
            ),
            reraise=True,
        )
        try:
            result: T = retrying(self._call, action, function)
        except exception.HypervisorUnavailable:
            self._may_wait = False
            raise
        return result

    def domain(self, uuid: str) -> Callable[[Any], Any]:
        """Return a function that looks a domain up on a connection."""
        return lambda connection: connection.lookupByUUIDString(uuid)

    def domain_uuids(self) -> Iterator[tuple[str, str]]:
        """Yield (uuid, name) of every domain, running or not."""
        domains = self.call(
            'list the servers', lambda connection: connection.listAllDomains()
        )
        for domain in domains:
            yield domain.UUIDString(), domain.name()

    def readings(self) -> list[Reading]:
        """Read every domain; leave out those that are gone meanwhile.

        Nothing here waits for QEMU, so a guest that hangs delays nobody.
        """

        def read(connection: Any) -> list[Reading]:
            readings = map(_reading, connection.listAllDomains())
            return [reading for reading in readings if reading is not None]

        return self.call('list the servers', read)

    def reading(self, uuid: str) -> Reading | None:
        """Read a domain; return None if there is none."""

        def read(connection: Any) -> Reading | None:
            try:
                return _reading(connection.lookupByUUIDString(uuid))
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                    return None
                raise

        return self.call('read the server', read)

    def leases(self, network: str) -> Mapping[str, tuple[str, ...]]:
        """Return the addresses that a network's DHCP server has given.

        By the MAC address of the interface; none where libvirt has no such
        network, or nothing that serves networks.
        """

        def read(connection: Any) -> list[dict[str, Any]]:
            try:
                found = connection.networkLookupByName(network)
                return list(found.DHCPLeases())
            except libvirt.libvirtError as error:
                LOG.debug('No leases of network %s: %s', network, error)
                return []

        found: dict[str, tuple[str, ...]] = {}
        for lease in self.call(f'read the leases of {network}', read):
            mac = str(lease['mac']).lower()
            found[mac] = (*found.get(mac, ()), str(lease['ipaddr']))
        return found

    def details(self) -> host_details.HostDetails:
        """Read what the host is."""

        def read(connection: Any) -> host_details.HostDetails:
            _model, memory, cpus, *_rest = connection.getInfo()
            return host_details.HostDetails(
                hostname=connection.getHostname(),
                hypervisor=connection.getType(),
                version=connection.getVersion(),
                cpus=cpus,
                memory_mb=memory,
            )

        return self.call('read what the host is', read)

    def users_of(self, path: str) -> Iterator[str]:
        """Yield the uuid of each domain whose definition names a file.

        The live and the persistent definition are searched.
        """
        domains = self.call(
            'list the servers',
            lambda connection: connection.listAllDomains(),
            insist=True,
        )
        for domain in domains:
            look = functools.partial(_definitions, domain)
            xml = self.call('read the definition of a server', look)
            if domain_xml.names(xml, path):
                yield domain.UUIDString()

    def definitions(self) -> Iterator[tuple[str, str]]:
        """Yield (uuid, XML) of each definition; running guests have two."""

        def read(connection: Any) -> list[tuple[str, str]]:
            inactive = libvirt.VIR_DOMAIN_XML_INACTIVE
            found = []
            for domain in connection.listAllDomains():
                try:
                    for flags in (0, inactive) if domain.isActive() else (0,):
                        uuid = domain.UUIDString()
                        found.append((uuid, domain.XMLDesc(flags)))
                except libvirt.libvirtError as error:
                    if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                        raise
            return found

        yield from self.call('list the servers', read, insist=True)

    def define(self, xml: str) -> None:
        """Make a domain persistent; retry if libvirtd is gone.

        The XML comes from libvirt itself, so it is not validated.
        """
        self.call(
            'define the server',
            lambda connection: connection.defineXML(xml),
            insist=True,
        )

    def remove(self, uuid: str) -> None:
        """Undefine a domain that does not run.

        Its firmware variables and the state of its TPM go, too.
        """
        flags = (
            libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
            | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        )
        if self.libvirt_version() >= MIN_LIBVIRT_KEEP_TPM:
            flags |= libvirt.VIR_DOMAIN_UNDEFINE_TPM
        lookup = self.domain(uuid)

        def remove(connection: Any) -> None:
            try:
                domain = lookup(connection)
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                    return
                raise
            if not domain.isActive():
                domain.undefineFlags(flags)

        self.call('undefine the server', remove, insist=True)

    def hypervisor_version(self) -> Version:
        """Return the version of QEMU (or another hypervisor)."""
        return _version(
            self.call(
                'read the version of the hypervisor',
                lambda connection: connection.getVersion(),
            )
        )

    def libvirt_version(self) -> Version:
        """Return the version of the libvirt daemon."""
        return _version(
            self.call(
                'read the version of libvirt',
                lambda connection: connection.getLibVersion(),
            )
        )

    def is_network_active(self, name: str) -> bool:
        """Return True if one of libvirt's networks exists and is active."""

        def look(connection: Any) -> bool:
            try:
                return bool(connection.networkLookupByName(name).isActive())
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_NETWORK:
                    return False
                raise

        return self.call(f'read the state of its network {name}', look)

    def storage_volume(self, pool: str, name: str) -> tuple[str, str]:
        """Return the type and the path of a volume of a storage pool.

        The type is that of a disk with this path, file or block; '' for
        volumes of other kinds.

        :raises HypervisorError: libvirt has no such volume, or the pool is not
            active.
        """

        def look(connection: Any) -> tuple[str, str]:
            found = connection.storagePoolLookupByName(pool)
            volume = found.storageVolLookupByName(name)
            return _VOLUME_TYPES.get(volume.info()[0], ''), volume.path()

        return self.call(
            f'find volume {name} in its storage pool {pool}', look
        )

    def pool_directory(self, pool: str) -> str:
        """Return the directory of a storage pool.

        '' if it has none, or is not active: its directory may be the empty one
        in which a file system is to be mounted.

        :raises HypervisorError: libvirt has no such pool.
        """

        def look(connection: Any) -> str:
            found = connection.storagePoolLookupByName(pool)
            described = domain_xml.parse(found.XMLDesc())
            if described.get('type') not in ('dir', 'fs', 'netfs'):
                return ''
            if not found.isActive():
                return ''
            return described.findtext('target/path', '')

        return self.call(f'find storage pool {pool}', look)

    def refresh_pool(self, pool: str) -> None:
        """Let libvirt look for new volumes in a storage pool.

        A failure is logged: the files are there.
        """
        try:
            self.call(
                f'refresh storage pool {pool}',
                lambda connection: connection.storagePoolLookupByName(
                    pool
                ).refresh(),
            )
        except exception.NovaSnapError as error:
            LOG.warning('%s', error)

    def secret(self, uuid: str) -> bytes:
        """Return the value of a libvirt secret.

        :raises HypervisorError: there is none, or it is private.
        """
        value: bytes = self.call(
            'read the secret of an encrypted disk',
            lambda connection: connection.secretLookupByUUIDString(
                uuid
            ).value(),
        )
        return value

    def _call(self, action: str, function: Callable[[Any], T]) -> T:
        connection = self._connected()
        try:
            return concurrency.run_blocking(function, connection)
        except libvirt.libvirtError as error:
            self._raise(action, error)
            raise  # not reached

    def _connected(self) -> Any:
        with self._lock:
            if self._connection is None or not self._is_alive():
                self._connection = concurrency.run_blocking(self._connect)
                self.generation += 1
                self._may_wait = True
            return self._connection

    def _is_alive(self) -> bool:
        try:
            return bool(self._connection.isAlive())
        except libvirt.libvirtError:
            return False

    def _connect(self) -> Any:
        events.start_loop()
        try:
            connection = libvirt.open(self.uri)
            _keep_alive(connection)
            self.events.register(connection)
        except libvirt.libvirtError as error:
            raise exception.HypervisorUnavailable(
                uri=self.uri, reason=str(error)
            ) from error
        return connection

    def _raise(self, action: str, error: libvirt.libvirtError) -> None:
        code, domain = error.get_error_code(), error.get_error_domain()
        # The bindings fetch the error after the call.  If the garbage
        # collector frees an object of theirs in between, libvirt forgets the
        # error of this thread, and nothing is known but that the call failed.
        is_lost = code is None
        if is_lost or (
            code in _CONNECTION_CODES
            and (domain in _CONNECTION_DOMAINS or not self._is_alive())
        ):
            raise exception.HypervisorUnavailable(
                uri=self.uri, reason=str(error)
            ) from error
        raise exception.HypervisorError(
            action=action, reason=str(error), code=code
        ) from error


def _keep_alive(connection: Any) -> None:
    """Switch on keep-alive messages, if the driver supports them."""
    try:
        connection.setKeepAlive(*KEEPALIVE)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise


def _version(number: int) -> Version:
    """Unpack a version: major * 10^6 + minor * 10^3 + release."""
    return number // 1000000, number // 1000 % 1000, number % 1000


def _reading(domain: Any) -> Reading | None:
    """Read a domain; return None if it is gone."""
    try:
        state, _reason = domain.state()
        is_off = state == libvirt.VIR_DOMAIN_SHUTOFF
        return Reading(
            xml=domain.XMLDesc(),
            state=state,
            is_saved=is_off and bool(domain.hasManagedSaveImage()),
        )
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def _definitions(domain: Any, _connection: Any) -> str:
    """Return the live and the persistent XML, '' if the domain is gone."""
    try:
        inactive = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        return str(domain.XMLDesc() + inactive)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return ''
        raise
