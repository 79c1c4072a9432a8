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

"""Detaching and attaching of the host's devices by Nova.

The memory of a guest that has a device of the host can't be saved.  The
functions of Nova's own suspend and resume do the work; they are private ones
of Nova's driver, and ``interface.py`` lists them.  Attaching here leaves a
device alone that the guest has already, so it may be done twice, or after a
crash.
"""

from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from nova import objects
from nova.network import model as network_model

from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import guest as guest_lib


class Devices:
    """The devices of one server.

    :param driver: Nova's own driver.
    :param instance: Nova's instance object.
    """

    def __init__(
        self, driver: Any, context: Any, instance: Any, guest: guest_lib.Guest
    ) -> None:
        self._driver = driver
        self._context = context
        self._instance = instance
        self._guest = guest

    def mediated(self) -> list[str]:
        """Return the uuids of the mediated devices that the guest has."""
        return [device.uuid for device in self._mediated(self._guest.xml())]

    def is_any(self) -> bool:
        """Return True if the guest has a device that prevents saving it."""
        xml = self._guest.xml()
        return bool(domain_xml.passthrough_devices(xml) or self._mediated(xml))

    def detach(self) -> None:
        """Detach all devices, as Nova's suspend does."""
        guest = self._nova_guest()
        self._driver._detach_pci_devices(guest, self._pci_devices())
        self._driver._detach_direct_passthrough_ports(
            self._context, self._instance, guest
        )
        self._driver._detach_mediated_devices(guest)

    def attach(self, mediated: Sequence[str]) -> None:
        """Attach each device that the guest has not.

        Nothing is done for a guest that does not run: Nova attaches its
        devices when it starts the guest.

        :param mediated: uuids of mediated devices.
        """
        if not self._guest.power_state().is_active:
            return
        guest, xml = self._nova_guest(), self._guest.xml()
        present = _pci_addresses(xml)
        self._driver._attach_pci_devices(
            guest,
            [d for d in self._pci_devices() if d.address not in present],
        )
        self._driver._attach_direct_passthrough_ports(
            self._context,
            self._instance,
            guest,
            network_model.NetworkInfo(self._missing_ports(xml)),
        )
        there = {device.uuid for device in self._mediated(xml)}
        self._driver._attach_mediated_devices(
            guest,
            [_mdev(uuid) for uuid in mediated if uuid not in there],
        )

    def _nova_guest(self) -> Any:
        return self._driver._host.get_guest(self._instance)

    def _pci_devices(self) -> list[Any]:
        """Return the PCI devices of the flavor, without those of ports."""
        return list(
            self._instance.get_pci_devices(
                source=objects.InstancePCIRequest.FLAVOR_ALIAS
            )
        )

    def _mediated(self, xml: str) -> list[Any]:
        return list(self._driver._get_mdevs_from_guest_config(xml))

    def _missing_ports(self, xml: str) -> Iterator[Any]:
        present = _pci_addresses(xml)
        for port in self._instance.info_cache.network_info or ():
            is_hostdev = port['profile'].get('pci_slot') in present
            if not is_hostdev and port['address'] not in xml:
                yield port


def _pci_addresses(xml: str) -> set[str]:
    return {d.address for d in domain_xml.passthrough_devices(xml)}


def _mdev(uuid: str) -> Any:
    # Imported late, after Nova's driver has loaded its libvirt.
    from nova.virt.libvirt import config

    device = config.LibvirtConfigGuestHostdevMDEV()
    device.uuid = uuid
    return device
