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


"""Guests that are made of images.

Open this file for what is checked before, and for the order in which the
disks get their names and the guest is defined.  From the moment at which it is
defined, the guest is whole.
"""

from collections.abc import Sequence
import contextlib
import dataclasses
import os
import pathlib
import re
from typing import BinaryIO
import xml.etree.ElementTree as ElementTree  # nosec B405  no parser is used

from oslo_utils import units

from nova_snap import exception
from nova_snap import journal
from nova_snap.objects import instance as instance_lib
from nova_snap.virt import creation
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import guest_definition
from nova_snap.virt.libvirt import host as host_lib
from nova_snap.virt.libvirt import lookup
from nova_snap.virt.libvirt import new_disks
from nova_snap.virt.libvirt import new_guest_steps
from nova_snap.virt.libvirt import new_guest_xml
from nova_snap.virt.libvirt import rebuild_xml
from nova_snap.virt.libvirt.snapshots import firmware_state

DEFAULT_DIRECTORY = pathlib.Path('/var/lib/libvirt/images')

DEFAULT_NETWORK = 'default'

NO_NETWORK = 'none'

_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]{0,62}')


@dataclasses.dataclass(frozen=True)
class NewGuest(creation.Creation):
    """A guest that can be made.

    :ivar xml: its definition, with the names of its disks.
    """

    guest: guest_lib.Guest
    xml: str = dataclasses.field(repr=False)
    disks: new_disks.NewDisks
    wanted: creation.Wanted

    def files(
        self, entry: journal.Entry
    ) -> contextlib.AbstractContextManager[Sequence[BinaryIO]]:
        """Yield a new file for each disk."""
        return self.disks.files(entry)

    def finish(self, entry: journal.Entry) -> None:
        """Inspect and name the disks, define and start the guest."""
        self.disks.complete()
        for disk in self.disks.placed:
            disk.take_owner()
        outcome = new_guest_steps.Outcome()
        with entry.undoing(new_guest_steps.RemoveGuest(outcome)):
            self.guest.host.define(self.xml)
            if self.wanted.starts:
                self.guest.start(paused=False)
            outcome.is_complete = True
        if self.wanted.pool is not None:
            self.guest.host.refresh_pool(self.wanted.pool)


def planned(
    host: host_lib.Host,
    instance: instance_lib.Instance,
    wanted: creation.Wanted,
    reserved: int,
) -> NewGuest:
    """Check what can be checked before anything is downloaded.

    :param reserved: bytes that stay free.
    :raises Invalid: the definition, the name or the directory is not usable.
    :raises Conflict: the name is taken.
    :raises NotEnoughSpace: there is no room for the disks.
    """
    _require_free_name(host, instance.name)
    domain = _hardware(host, wanted)
    model = _model(host, wanted)
    directory = _directory(host, wanted, model)
    devices = _devices(domain, wanted)
    placed = [
        new_disks.Placed.of(
            disk,
            device,
            instance.uuid,
            directory / f'{instance.name}-{device}.{disk.format}',
            None if model is None else model.file,
        )
        for disk, device in zip(wanted.disks, devices, strict=True)
    ]
    disks = new_disks.NewDisks(placed, wanted.max_disk)
    disks.require(host, reserved)
    xml = new_guest_xml.assembled(
        domain,
        instance.name,
        instance.uuid,
        {
            device: new_guest_xml.File(one.path, one.disk.format)
            for device, one in zip(devices, placed, strict=True)
        },
        keeps_other_disks=wanted.written is not None,
    )
    guest = guest_lib.Guest(host, instance.uuid, instance.name)
    _require_no_variables(guest, xml)
    xml = rebuild_xml.with_image(xml, wanted.disks[0].image)
    return NewGuest(guest, xml, disks, wanted)


def _require_free_name(host: host_lib.Host, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise exception.Invalid(
            f'{name!r} is no name for a server here: letters, digits, ".", '
            '"_" and "-" are allowed, 63 at most.'
        )
    with contextlib.suppress(exception.InstanceNotFound):
        lookup.find(host, name)
        raise exception.Conflict(f'There is a server named {name} already.')


def _require_no_variables(guest: guest_lib.Guest, xml: str) -> None:
    """Raise if libvirt would give the guest the variables of another one.

    libvirt names the file after the guest, and uses one that is there.
    """
    path = firmware_state.files(guest, xml).get(firmware_state.NVRAM)
    if path is not None and os.path.lexists(path):
        raise exception.Conflict(
            f'{path} has the UEFI variables of an earlier server of this '
            'name; choose another name, or remove the file.'
        )


def _hardware(
    host: host_lib.Host, wanted: creation.Wanted
) -> ElementTree.Element:
    if wanted.written is not None:
        try:
            return domain_xml.parse(wanted.written)
        except ElementTree.ParseError as error:
            raise exception.InvalidDefinition(
                reason=f'it is no XML ({error}).'
            ) from error
    if wanted.like is not None:
        domain = guest_definition.of_guest(_like(host, wanted.like))
    elif wanted.of_image:
        domain = guest_definition.of_image(wanted.of_image)
        found = host.details()
        new_guest_xml.require_size(
            domain, found.memory_mb * units.Mi, found.cpus
        )
    else:
        raise exception.Invalid(
            'The image does not say which hardware its server had; name a '
            'server with the same (--like), or a file (--definition).'
        )
    _connect(host, domain, wanted.network)
    return domain


def _like(host: host_lib.Host, server: str) -> str:
    found = lookup.find(host, server)
    return guest_lib.Guest(host, found.uuid, found.name).xml()


def _connect(
    host: host_lib.Host, domain: ElementTree.Element, network: str | None
) -> None:
    """Connect interfaces of an image to a network that the user names."""
    if not new_guest_xml.has_unconnected(domain):
        return
    wanted = network or DEFAULT_NETWORK
    if wanted == NO_NETWORK:
        new_guest_xml.connect(domain, None)
        return
    if not host.is_network_active(wanted):
        raise exception.Invalid(
            f'libvirt has no active network {wanted!r} for the interfaces of '
            f'the server; name one (--network), or leave them out (--network '
            f'{NO_NETWORK}).'
        )
    new_guest_xml.connect(domain, wanted)


@dataclasses.dataclass(frozen=True)
class _Model:
    """The first disk of the server that the new one is to be like."""

    file: pathlib.Path
    is_of_nova: bool


def _model(host: host_lib.Host, wanted: creation.Wanted) -> _Model | None:
    if wanted.like is None:
        return None
    domain = domain_xml.parse(_like(host, wanted.like))
    source = domain.find("devices/disk[@device='disk']/source[@file]")
    if source is None:
        return None
    return _Model(
        pathlib.Path(source.get('file', '')),
        domain_xml.nova_element(domain) is not None,
    )


def _directory(
    host: host_lib.Host, wanted: creation.Wanted, model: _Model | None
) -> pathlib.Path:
    directory = wanted.directory or DEFAULT_DIRECTORY
    if wanted.pool is not None:
        directory = pathlib.Path(host.pool_directory(wanted.pool))
    elif wanted.directory is None and model and not model.is_of_nova:
        # Nova removes the directory of a server together with the server.
        directory = model.file.parent
    if not directory.is_absolute() or not directory.is_dir():
        raise exception.Invalid(
            f'There is no directory {str(directory)!r} for the disks; name '
            'another one (--directory), or start the storage pool (--pool).'
        )
    return directory


def _devices(
    domain: ElementTree.Element, wanted: creation.Wanted
) -> list[str]:
    """Return the target name of each disk that an image becomes."""
    known = new_guest_xml.disk_devices(domain)
    devices = [disk.device or (known or [''])[0] for disk in wanted.disks]
    for device in devices:
        if device not in known or not re.fullmatch('[A-Za-z0-9]+', device):
            raise exception.InvalidDefinition(
                reason=f'it has no disk {device!r}, which the image is of.'
            )
    return devices
