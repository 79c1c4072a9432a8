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
from nova_snap.virt.libvirt import plan as plan_lib
from nova_snap.virt.libvirt.snapshots import creation
from nova_snap.virt.libvirt.snapshots import creation_plan
from nova_snap.virt.libvirt.snapshots import deletion
from nova_snap.virt.libvirt.snapshots import deletion_plan
from nova_snap.virt.libvirt.snapshots import revert_plan
from nova_snap.virt.libvirt.snapshots import tree


class LibvirtDomainSnapshots(domain_snapshot_api.DomainSnapshots):
    """The domain snapshots of one guest.

    :param options: of the driver.
    """

    def __init__(
        self, guest: guest_lib.Guest, options: plan_lib.Options
    ) -> None:
        self._guest = guest
        self._options = options

    def tree(self) -> domain_snapshot.Tree:
        """Return what libvirt has, and what is found of its files."""
        return tree.read(self._guest, self._options.chain_reader).tree

    def plan_creation(
        self, request: domain_snapshot_api.Request
    ) -> creation.LibvirtCreation:
        """Read the guest, and refuse what would fail or do harm."""
        return creation_plan.plan(self._guest, self._options, request)

    def plan_deletion(
        self, request: domain_snapshot_api.DeletionRequest
    ) -> deletion.LibvirtDeletion:
        """Read the host, and refuse what would fail or do harm."""
        return deletion_plan.plan(self._guest, self._options, request)

    def plan_revert(
        self, request: domain_snapshot_api.RevertRequest
    ) -> domain_snapshot_api.Revert:
        """Read the host, and refuse what would fail or do harm."""
        return revert_plan.plan(self._guest, self._options, request)
