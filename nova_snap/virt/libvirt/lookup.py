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

"""Lookup of instances among the guests of a host, by uuid or by name."""

from collections.abc import Collection
from collections.abc import Iterator
import uuid

from oslo_utils import uuidutils

from nova_snap import exception
from nova_snap.objects import instance as instance_lib
from nova_snap.objects import power_state
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import host as host_lib


def instances(
    host: host_lib.Host,
) -> list[tuple[instance_lib.Instance, power_state.PowerState]]:
    """Return all guests of a host, without those deleted meanwhile."""
    return [
        (
            domain_xml.nova_instance(reading.xml),
            host_lib.power_state_of(reading.state),
        )
        for reading in host.readings()
    ]


def find(host: host_lib.Host, server: str) -> instance_lib.Instance:
    """Return the instance with this uuid, libvirt name or Nova name.

    Users choose the names in Nova, so an ID is none of them: a name may not
    keep others from finding a guest by its ID.

    :raises InstanceNotFound: there is none.
    :raises InstanceAmbiguous: several have the name.
    """
    if uuidutils.is_uuid_like(server):
        wanted = str(uuid.UUID(server))
        uuids = {
            domain_uuid
            for domain_uuid, name in host.domain_uuids()
            if domain_uuid == wanted or name == server
        }
        if uuids:
            return _by_uuid(host, _only(uuids, server))
    found = {
        instance.uuid: instance
        for instance, domain_name in _named(host)
        if server in (instance.name, domain_name)
    }
    if not found:
        raise exception.InstanceNotFound(server=server)
    return found[_only(found, server)]


def _named(
    host: host_lib.Host,
) -> Iterator[tuple[instance_lib.Instance, str]]:
    for reading in host.readings():
        name = domain_xml.parse(reading.xml).findtext('name', '')
        yield domain_xml.nova_instance(reading.xml), name


def _by_uuid(host: host_lib.Host, domain_uuid: str) -> instance_lib.Instance:
    guest = guest_lib.Guest(host, domain_uuid, domain_uuid)
    try:
        return domain_xml.nova_instance(guest.xml())
    except exception.GuestGone:
        raise exception.InstanceNotFound(server=domain_uuid) from None


def _only(uuids: Collection[str], server: str) -> str:
    """Return the only uuid.

    :raises InstanceAmbiguous: there are several.
    """
    if len(uuids) > 1:
        raise exception.InstanceAmbiguous(
            server=server, uuids=', '.join(sorted(uuids))
        )
    return next(iter(uuids))
