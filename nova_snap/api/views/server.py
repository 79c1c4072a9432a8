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
"""Nova's JSON of servers, in every microversion.

Open this file when a field of a server is wrong.  The functions are pure.
A value that a host without Nova can't know, such as the key pair, is the one
that Nova gives where it is not set.
https://docs.openstack.org/api-ref/compute/#list-servers-detailed
"""

from collections.abc import Callable
from collections.abc import Iterable
import dataclasses
import datetime
import hashlib
import itertools
import re
from typing import Any
from urllib import parse

from nova_snap.objects import instance_details
from nova_snap.objects import task_state as task_state_lib
from nova_snap.objects import vm_state as vm_state_lib

#: Nova's word for a user or a status that it can't find out.
UNKNOWN = 'UNKNOWN'

_STATUSES = {
    vm_state_lib.VmState.ACTIVE: 'ACTIVE',
    vm_state_lib.VmState.PAUSED: 'PAUSED',
    vm_state_lib.VmState.STOPPED: 'SHUTOFF',
    vm_state_lib.VmState.SUSPENDED: 'SUSPENDED',
    vm_state_lib.VmState.ERROR: 'ERROR',
}

#: Of active servers that are rebooted.
_REBOOTS = {
    task_state_lib.TaskState.REBOOTING: 'REBOOT',
    task_state_lib.TaskState.REBOOT_STARTED: 'REBOOT',
    task_state_lib.TaskState.REBOOTING_HARD: 'HARD_REBOOT',
    task_state_lib.TaskState.REBOOT_STARTED_HARD: 'HARD_REBOOT',
}

#: Returns a URL of the service; see ``nova_snap.api.request.Request.link``.
#: Of servers whose disks are replaced, in each state in which Nova does that.
_REBUILDS = (
    task_state_lib.TaskState.REBUILDING,
    task_state_lib.TaskState.REBUILD_BLOCK_DEVICE_MAPPING,
    task_state_lib.TaskState.REBUILD_SPAWNING,
)

#: What the answer of a rebuild has from a microversion on; those of servers
#: have it since earlier ones.
_IN_REBUILD = {
    54: ('key_name',),
    75: (
        *('config_drive', 'host_status', 'os-extended-volumes:'),
        *('OS-EXT-AZ:', 'OS-EXT-SRV-ATTR:', 'OS-EXT-STS:', 'OS-SRV-USG:'),
    ),
}

Link = Callable[..., str]

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Activity:
    """What is done to a server now.

    :ivar progress: in per cent.
    :ivar vm_state: the state that the server keeps until it is done; None if
        that is the state of the guest.
    :ivar image_id: the image that the server is about to be of; None if it
        stays the one that it is of.
    """

    task_state: task_state_lib.TaskState | None = None
    progress: int = 0
    vm_state: vm_state_lib.VmState | None = None
    image_id: str | None = None


@dataclasses.dataclass(frozen=True)
class Server:
    """A server as the service knows it.

    :ivar project_id: the project that it belongs to, by whatever rule.
    :ivar host: name of the host that the guest is on.
    """

    details: instance_details.InstanceDetails
    project_id: str
    host: str
    activity: Activity = Activity()

    @property
    def vm_state(self) -> vm_state_lib.VmState | None:
        """The state in Nova's words, None if it is not known."""
        return self.activity.vm_state or self.details.vm_state

    @property
    def status(self) -> str:
        """The status in Nova's words, such as ``ACTIVE``."""
        vm_state, task_state = self.vm_state, self.activity.task_state
        if vm_state is None:
            return UNKNOWN
        if vm_state is vm_state_lib.VmState.ACTIVE and task_state in _REBOOTS:
            return _REBOOTS[task_state]
        if task_state in _REBUILDS:
            return 'REBUILD'
        return _STATUSES[vm_state]

    @property
    def image_id(self) -> str | None:
        """The image that the server is made of, None if it is not known."""
        details = self.details
        return (
            self.activity.image_id
            or details.image_id
            or details.instance.image_ref
        )

    @property
    def hostname(self) -> str:
        """The host name that Nova gives a guest of this name.

        Nova keeps letters of Latin-1, digits and hyphens, and at most 63
        characters.
        """
        instance = self.details.instance
        latin = instance.name.encode('latin-1', 'ignore').decode('latin-1')
        label = re.sub(r'[ _.]', '-', latin[:63])
        label = re.sub(r'[^\w-]', '', label).lower().strip('-')
        return label or f'Server-{instance.uuid}'


@dataclasses.dataclass(frozen=True)
class ServerView:
    """A view of servers for one request.

    :ivar minor: the second number of the microversion.
    :ivar shows_attributes: the view has the extended attributes.
    :ivar shows_host_status: the view has the status of the host.
    :ivar shows_extra_specs: the view has the extra specs of flavors.
    :ivar now: what stands for a date that is not known, as in Nova.
    """

    minor: int
    link: Link
    shows_attributes: bool
    shows_host_status: bool
    shows_extra_specs: bool
    now: datetime.datetime

    def summary(self, server: Server) -> Json:
        """Return an item of ``GET /servers``."""
        instance = server.details.instance
        return {
            'id': instance.uuid,
            'name': instance.name,
            'links': self._links('servers', instance.uuid),
        }

    def shown(self, server: Server) -> Json:
        """Return what ``GET /servers/{id}`` has."""
        document = self.detailed(server)
        if self.minor >= 71:
            document['server_groups'] = []
        return document

    def rebuilt(self, server: Server) -> Json:
        """Return what the answer of a rebuild has."""
        late = tuple(
            name
            for minor, names in _IN_REBUILD.items()
            if self.minor < minor
            for name in names
        )
        document = {
            name: value
            for name, value in self.shown(server).items()
            if not late or not name.startswith(late)
        }
        document.pop('OS-EXT-SRV-ATTR:user_data', None)
        if self.minor < 75:
            for address in itertools.chain(*document['addresses'].values()):
                for name in ('OS-EXT-IPS:type', 'OS-EXT-IPS-MAC:mac_addr'):
                    del address[name]
        if self.minor >= 57:
            document['user_data'] = None
        return document

    def detailed(self, server: Server) -> Json:
        """Return an item of ``GET /servers/detail``."""
        return {
            **self.summary(server),
            **self._origin(server),
            **_state(server),
            **self._unset(),
            **self._attributes(server),
            **self._later(server),
        }

    def _origin(self, server: Server) -> Json:
        """Return whose the server is, and what it was made from."""
        details = server.details
        created = details.created_at or self.now
        return {
            'tenant_id': server.project_id,
            'user_id': details.instance.user_id or UNKNOWN,
            'created': timestamp(created),
            'updated': timestamp(details.updated_at or created),
            'flavor': self._flavor(details),
            'image': self._image(server.image_id),
            'hostId': _host_id(server),
            'addresses': _addresses(details.addresses),
            'config_drive': 'True' if details.has_config_drive else '',
            'os-extended-volumes:volumes_attached': [
                self._volume(volume) for volume in details.volumes
            ],
        }

    def _unset(self) -> Json:
        """Return the fields of which nothing can be known outside of Nova."""
        return {
            'accessIPv4': '',
            'accessIPv6': '',
            'key_name': None,
            'metadata': {},
            'OS-DCF:diskConfig': 'MANUAL',
            'OS-EXT-AZ:availability_zone': '',
            'OS-SRV-USG:launched_at': None,
            'OS-SRV-USG:terminated_at': None,
        }

    def _attributes(self, server: Server) -> Json:
        """Return the extended attributes, as far as the user may see them."""
        prefix = 'OS-EXT-SRV-ATTR:'
        found: Json = {}
        if self.shows_attributes:
            found |= {
                'host': server.host,
                'hypervisor_hostname': server.host,
                'instance_name': server.details.domain_name,
            }
        if self.shows_attributes and self.minor >= 3:
            found |= {
                'kernel_id': '',
                'launch_index': 0,
                'ramdisk_id': '',
                'reservation_id': None,
                'root_device_name': server.details.root_device,
                'user_data': None,
            }
        if self.minor >= 90 or (self.shows_attributes and self.minor >= 3):
            found['hostname'] = server.hostname
        return {prefix + name: value for name, value in found.items()}

    def _later(self, server: Server) -> Json:
        """Return the fields that microversions have added."""
        found: Json = {}
        if self.minor >= 9:
            found['locked'] = False
        if self.minor >= 16 and self.shows_host_status:
            found['host_status'] = 'UP'
        if self.minor >= 19:
            found['description'] = server.details.description
        if self.minor >= 26:
            found['tags'] = []
        if self.minor >= 63:
            found['trusted_image_certificates'] = None
        if self.minor >= 73:
            found['locked_reason'] = None
        return found

    def _flavor(self, details: instance_details.InstanceDetails) -> Json:
        flavor = details.flavor
        if self.minor < 47:
            return {
                'id': details.flavor_id,
                'links': [self._bookmark('flavors', details.flavor_id)],
            }
        found: Json = {
            'original_name': flavor.name,
            'vcpus': flavor.vcpus,
            'ram': flavor.memory_mb,
            'disk': flavor.root_gb,
            'ephemeral': flavor.ephemeral_gb,
            'swap': flavor.swap_mb,
        }
        if self.shows_extra_specs:
            found['extra_specs'] = dict(flavor.extra_specs)
        return found

    def _image(self, image_ref: str | None) -> Json | str:
        if image_ref is None:
            return ''
        return {
            'id': image_ref,
            'links': [self._bookmark('images', image_ref)],
        }

    def _volume(self, volume_id: str) -> Json:
        if self.minor < 3:
            return {'id': volume_id}
        return {'id': volume_id, 'delete_on_termination': False}

    def _links(self, collection: str, identity: str) -> list[Json]:
        return links(self.link, collection, identity)

    def _bookmark(self, collection: str, identity: str) -> Json:
        return self._links(collection, identity)[1]


def links(link: Link, collection: str, identity: str) -> list[Json]:
    """Return Nova's two links to an object."""
    identity = parse.quote(identity, safe='')
    return [
        {'rel': 'self', 'href': link('v2.1', collection, identity)},
        {'rel': 'bookmark', 'href': link(collection, identity)},
    ]


def timestamp(moment: datetime.datetime) -> str:
    """Return a time as Nova writes it (RFC 3339, in UTC)."""
    return moment.astimezone(datetime.UTC).strftime('%Y-%m-%dT%H:%M:%SZ')


def _state(server: Server) -> Json:
    details, activity = server.details, server.activity
    document: Json = {
        'status': server.status,
        'OS-EXT-STS:task_state': activity.task_state,
        'OS-EXT-STS:vm_state': server.vm_state,
        'OS-EXT-STS:power_state': int(details.power_state),
    }
    if server.status in ('ACTIVE', 'REBUILD'):
        # As in Nova: only servers of some statuses have the field.
        document['progress'] = activity.progress
    return document


def _addresses(
    addresses: Iterable[instance_details.Address],
) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for address in addresses:
        found.setdefault(address.network, []).append(
            {
                'addr': address.address,
                'version': address.version,
                'OS-EXT-IPS:type': address.kind,
                'OS-EXT-IPS-MAC:mac_addr': address.mac,
            }
        )
    return found


def _host_id(server: Server) -> str:
    """Return a name of the host that tells a project nothing about it.

    It is the same for all servers of a project on the host, and made as Nova
    makes it, so that servers that Nova shows and those shown here agree.
    """
    text = server.project_id + server.host
    return hashlib.sha224(text.encode()).hexdigest()
