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

"""The exceptions that this project raises.

There is a class for each error that a caller may want to tell apart; its
attributes carry the values that the message shows.  Foreign exceptions
(libvirt, glanceclient, keystoneauth, subprocess) are translated where they
arise, so nothing outside the wrappers needs to know them.

The direct subclasses of :class:`NovaSnapError` are the categories by which
the command chooses its exit code and the API its HTTP status.
"""

from typing import Any


class NovaSnapError(Exception):
    """Base class; ``message`` is one sentence that a person can act on.

    Subclasses give a ``message`` with named fields.  Keyword arguments fill
    the fields, and are attributes of the exception.
    """

    message = 'An unexpected error occurred.'

    def __init__(self, message: str | None = None, **fields: Any) -> None:
        self.fields = fields
        for name, value in fields.items():
            setattr(self, name, value)
        super().__init__(message or self.message % fields)


# Categories -----------------------------------------------------------------


class NotFound(NovaSnapError):
    message = 'The resource could not be found.'


class Conflict(NovaSnapError):
    message = 'The request conflicts with what is going on.'


class NotPermitted(NovaSnapError):
    message = 'The request is not permitted.'


class Invalid(NovaSnapError):
    message = 'The request is not valid.'


class Unavailable(NovaSnapError):
    message = 'A service that is needed does not answer.'


class SnapshotFailed(NovaSnapError):
    message = 'The snapshot failed.'


# Configuration and input ----------------------------------------------------


class InvalidConfiguration(Invalid):
    message = 'Configuration option %(option)s: %(reason)s'


class InvalidName(Invalid):
    message = 'The image name is not valid: %(reason)s'


class InvalidMetadata(Invalid):
    message = 'The image metadata is not valid: %(reason)s'


class InvalidDefinition(Invalid):
    message = 'The definition of the guest is not valid: %(reason)s'


# Instances and guests -------------------------------------------------------


class InstanceNotFound(NotFound):
    message = (
        'No server with a name or ID of %(server)r exists on this host; '
        '"nova-snap list" shows the ones that do.'
    )


class InstanceAmbiguous(Conflict):
    message = (
        'More than one server has the name or ID %(server)r (%(uuids)s); '
        "give the ID instead, or libvirt's name (virsh list)."
    )


class SnapshotInProgress(Conflict):
    message = (
        'Another operation on server %(server)s, such as a snapshot, is '
        'already running, or is being undone, in %(holder)s; wait until that '
        'has ended, then try again.'
    )


class InvalidState(Conflict):
    """An instance is in a state in which an action is not possible.

    ``attr`` is ``vm_state`` or ``task_state``; the sentences are Nova's.
    """

    message = (
        "Cannot '%(action)s' instance %(server)s while it is in %(attr)s "
        '%(state)s'
    )


class UnknownState(Conflict):
    message = "Instance %(server)s is in an invalid state for '%(action)s'"


class PowerActionRefused(Conflict):
    """The guest could not come back, or would lose something."""

    message = "Cannot '%(action)s' server %(server)s: %(reason)s"


class RebuildRefused(Conflict):
    """The guest could not come back, or would lose something."""

    message = 'Cannot rebuild server %(server)s: %(reason)s'


class BlockJobRunning(Conflict):
    message = (
        'Another program copies disk %(disk)s of server %(server)s (see '
        '"virsh blockjob"); wait until it has ended, then try again.'
    )


class RecoveryNeeded(Conflict):
    message = (
        'An earlier snapshot of server %(server)s ended without cleaning up '
        '(journal entry %(entry)s) and could not be recovered: %(reason)s'
    )


class NotUndone(SnapshotFailed):
    message = (
        'The image of server %(server)s is complete, but the snapshot failed '
        'to %(kinds)s. See to the server; "nova-snap recover" tries that '
        'again (journal entry %(entry)s).'
    )


class MethodUnavailable(SnapshotFailed):
    """This method can't make the image of this disk; another one may."""

    message = 'The image cannot be made by %(method)s: %(reason)s'


class ResourceMissing(Unavailable):
    message = (
        'this needs %(name)s, which this process does not have; configure '
        'it for "nova-snap recover", or let nova-compute recover.'
    )


class UnsupportedGuest(Invalid):
    """No image can be taken of this guest; nothing was begun."""

    message = 'Cannot take a snapshot of server %(server)s: %(reason)s'


class HypervisorUnavailable(Unavailable):
    message = (
        'libvirt at %(uri)s does not answer: %(reason)s; check that libvirtd '
        '(or virtqemud) runs and that this user may connect to it.'
    )


class HypervisorError(SnapshotFailed):
    """libvirt refused a call; ``code`` is its VIR_ERR_* number."""

    message = 'libvirt could not %(action)s: %(reason)s'
    code: int | None = None


class BackupRefused(HypervisorError):
    """libvirt did not begin a backup job; no data was read yet."""


class GuestGone(SnapshotFailed):
    action: str
    message = (
        'Server %(server)s stopped or was deleted while its snapshot was '
        'being taken (%(action)s).'
    )


class FrozenTooLong(SnapshotFailed):
    message = (
        'Server %(server)s was frozen for more than %(seconds)d s, and was '
        'thawed: libvirt or QEMU did not answer. No image was taken.'
    )


class MayHaveMoved(SnapshotFailed):
    message = (
        'Server %(server)s may have been moved to another host, and is left '
        'as it is: %(reason)s'
    )


class GuestCrashed(SnapshotFailed):
    message = (
        'QEMU of server %(server)s ended by itself while a snapshot was being '
        'taken, and the server is shut off; the log of its QEMU says why. An '
        'image that is active all the same is complete.'
    )


class GuestStarted(SnapshotFailed):
    message = (
        'Server %(server)s was started while its disk was being read, so the '
        'image would not show one moment; try again.'
    )


class BlockJobFailed(SnapshotFailed):
    message = 'Copying disk %(disk)s of server %(server)s failed: %(reason)s'


class ExportFailed(SnapshotFailed):
    message = 'Reading the disk of server %(server)s failed: %(reason)s'


class QuiesceNotPossible(SnapshotFailed):
    message = (
        'The image of server %(server)s demands os_require_quiesce, and its '
        'file systems cannot be frozen: %(reason)s'
    )


# Domain snapshots -----------------------------------------------------------


class DomainSnapshotNotFound(NotFound):
    message = (
        'Server %(server)s has no domain snapshot %(name)r; "nova-snap '
        'snapshot-list" shows those that it has.'
    )


class DomainSnapshotRefused(Conflict):
    """It is not possible with this guest, or not safe; nothing was begun.

    ``action`` is a phrase that continues "Cannot".
    """

    message = (
        'Cannot %(action)s domain snapshot %(name)s of server %(server)s: '
        '%(reason)s'
    )


# Storage and programs -------------------------------------------------------


class NotEnoughSpace(SnapshotFailed):
    message = (
        'Not enough free space in %(path)s: %(free_mib)d MiB are free and '
        '%(needed_mib)d MiB are needed, [snapshot] reserved_space_mb for the '
        'disks of guests and the shares of running snapshots included.'
    )


class UnsafeDisk(SnapshotFailed):
    message = 'Disk %(disk)s cannot be read safely: %(reason)s'


class ProgramFailed(SnapshotFailed):
    """An external program ended with an error, or had to be ended.

    ``status`` is its exit status, if it ended by itself.
    """

    status: int | None = None

    message = '%(program)s failed (%(outcome)s): %(stderr)s'


class OutputTooLong(ProgramFailed):
    message = '%(program)s was ended: it wrote more than %(limit)d bytes.'


# Image services -------------------------------------------------------------


class CephError(SnapshotFailed):
    """A request to Ceph failed, or was not answered in time."""

    message = 'Ceph failed to %(action)s: %(reason)s'


class CephImageNotFound(CephError):
    """An RBD image, or its snapshot or parent, does not exist."""


class CephImageBusy(CephError):
    """An RBD image is opened by somebody."""


class ImageNotFound(NotFound):
    message = 'Image %(image_id)s does not exist.'


class ImageAmbiguous(Conflict):
    message = (
        'More than one image is named %(name)r (%(ids)s); give the ID instead.'
    )


class ImageConflict(Conflict):
    message = 'The image service refused image %(image_id)s: %(reason)s'


class ImageNotPermitted(NotPermitted):
    message = 'The image service does not permit this: %(reason)s'


class ImageLoginRefused(ImageNotPermitted):
    """The image service does not take the login or the token (any more)."""


class ImageTooLarge(SnapshotFailed):
    message = (
        'The image service does not take image %(image_id)s: it is larger '
        'than its limit or the quota of the project (%(reason)s).'
    )


class ImageRejected(SnapshotFailed):
    message = 'The image service rejected image %(image_id)s: %(reason)s'


class ImageCorrupt(SnapshotFailed):
    message = (
        'Image %(image_id)s is not what was sent: %(what)s is %(found)s in '
        'the image service and was %(sent)s here.'
    )


class DownloadCorrupt(SnapshotFailed):
    message = (
        'The data of image %(image_id)s is not what its record says: '
        '%(what)s is %(found)s, and %(expected)s in the record.'
    )


class UnsafeImage(SnapshotFailed):
    message = '%(image)s cannot become the disk of a server: %(reason)s'


class ImageServiceUnavailable(Unavailable):
    message = 'The image service at %(endpoint)s does not answer: %(reason)s'


# Volumes --------------------------------------------------------------------


class VolumeNotFound(NotFound):
    message = 'Volume %(volume_id)s does not exist in Cinder.'


class VolumeSnapshotNotFound(NotFound):
    message = 'Volume snapshot %(snapshot_id)s does not exist in Cinder.'


class VolumeConflict(Conflict):
    message = 'Cinder refused %(what)s: %(reason)s'


class VolumeNotPermitted(NotPermitted):
    message = 'Cinder does not permit this: %(reason)s'


class VolumeQuotaExceeded(SnapshotFailed):
    message = 'The quota of snapshots in Cinder is used up: %(reason)s'


class VolumeRejected(SnapshotFailed):
    message = 'Cinder rejected %(what)s: %(reason)s'


class VolumeSnapshotFailed(SnapshotFailed):
    message = (
        'Snapshot %(snapshot_id)s of volume %(volume_id)s failed: %(reason)s'
    )


class VolumeSnapshotsLate(SnapshotFailed):
    message = (
        'Cinder did not report within %(seconds)g s ([cinder] '
        'frozen_timeout) that it has taken the snapshots of all volumes of '
        'server %(server)s, and the server is not kept from writing for '
        'longer. They may show a later moment than its other disks, so no '
        'image was taken.'
    )


class VolumeServiceUnavailable(Unavailable):
    message = 'Cinder at %(endpoint)s does not answer: %(reason)s'


# Ends that are not failures -------------------------------------------------


class ActionInterrupted(NovaSnapError):
    """A power action was left while its guest was shutting down."""

    message = (
        'The service was stopped while server %(server)s was shutting down. '
        'The server is left to that; a reboot is finished when the service '
        'is started again.'
    )


class SnapshotCancelled(NovaSnapError):
    """The snapshot was cancelled; ``reason`` says by whom or why."""

    message = 'The snapshot of server %(server)s was cancelled: %(reason)s'
