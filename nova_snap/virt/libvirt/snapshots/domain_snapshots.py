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

"""The domain snapshots of one guest of libvirt.

Open this file to see which module does what is asked for.
"""

from nova_snap.objects import domain_snapshot
from nova_snap.virt import domain_snapshot as domain_snapshot_api
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt.snapshots import tree
from nova_snap.virt.storage import backing_chain


class LibvirtDomainSnapshots(domain_snapshot_api.DomainSnapshots):
    """The domain snapshots of one guest.

    :param reader: of backing chains that only headers name.
    """

    def __init__(
        self, guest: guest_lib.Guest, reader: backing_chain.Reader
    ) -> None:
        self._guest = guest
        self._reader = reader

    def tree(self) -> domain_snapshot.Tree:
        """Return what libvirt has, and what is found of its files."""
        return tree.read(self._guest, self._reader)
