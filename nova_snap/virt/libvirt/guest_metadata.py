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


"""Writing into the metadata of a guest, while it runs, too."""

from typing import Any

import libvirt

from nova_snap.virt.libvirt import guest as guest_lib


def write(
    guest: guest_lib.Guest, namespace: str, key: str, element: str
) -> None:
    """Replace the element of a namespace, in both definitions of a guest.

    :param key: the prefix of the namespace.
    :raises HypervisorError: it can't be written.
    """

    def call(domain: Any) -> None:
        flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG
        if domain.isActive():
            flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
        domain.setMetadata(
            libvirt.VIR_DOMAIN_METADATA_ELEMENT,
            element,
            key,
            namespace,
            flags,
        )

    guest.call('write its metadata', call, insist=True)
