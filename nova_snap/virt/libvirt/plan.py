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

"""The plan of an extraction from a guest of libvirt.

Open this file to see how a decision selects one of the pipelines.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import os
import pathlib
import uuid

from oslo_log import log as logging

from nova_snap import exception
from nova_snap import journal
from nova_snap import progress as progress_lib
from nova_snap.virt import decision as decision_lib
from nova_snap.virt import driver
from nova_snap.virt.libvirt import backup_job
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import guest_definition
from nova_snap.virt.libvirt import hardware as hardware_lib
from nova_snap.virt.libvirt import hooks as hooks_lib
from nova_snap.virt.libvirt import inspection as inspection_lib
from nova_snap.virt.libvirt import quiesce as quiesce_lib
from nova_snap.virt.libvirt import undo_steps
from nova_snap.virt.libvirt.extraction import cold
from nova_snap.virt.libvirt.extraction import context as context_lib
from nova_snap.virt.libvirt.extraction import guest_stop
from nova_snap.virt.libvirt.extraction import mirror
from nova_snap.virt.libvirt.extraction import pull
from nova_snap.virt.libvirt.extraction import rbd_direct
from nova_snap.virt.libvirt.extraction import shared_folder
from nova_snap.virt.libvirt.extraction import space as space_lib
from nova_snap.virt.libvirt.snapshots import firmware_state
from nova_snap.virt.storage import backing_chain
from nova_snap.virt.storage import disk_source as storage
from nova_snap.virt.storage import qemu_img

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the driver, named as in the configuration.

    ``image_format`` None means the format of each disk; ``compression`` is of
    all images, ``compression_of_streams`` of those that are streamed;
    ``reserved_space`` is in bytes, the timeouts in seconds.  A ``pull``
    begins when ``scratch_share`` of what the disks have allocated, and at
    least ``scratch_minimum`` bytes, are free beyond the reserve.  ``firmware``
    is where domain snapshots have what is not on disks.
    """

    snapshots_directory: pathlib.Path
    image_format: str | None = None
    compression: bool = False
    compression_of_streams: bool = False
    live_disabled: bool = False
    ephemeral_encryption: bool = False
    quiesce_timeout: int = 60
    detach_timeout: int = 20
    stall_timeout: int = 600
    reserved_space: int = 0
    live_methods: tuple[decision_lib.Method, ...] = (
        decision_lib.Method.MIRROR,
    )
    streaming: pull.Options = pull.Options()
    rbd: rbd_direct.Options = rbd_direct.Options()
    scratch_directory: pathlib.Path | None = None
    scratch_share: float = 0.1
    scratch_minimum: int = 0
    ceph_conf: str | None = None
    chain_reader: backing_chain.Reader = backing_chain.Reader()
    firmware: firmware_state.Store | None = None

    def compresses(
        self, image_format: str, method: decision_lib.Method | None
    ) -> bool:
        """Return True if images of a format are compressed.

        :param method: how the disk is read; None if the path is cold.
        """
        is_stream = method is decision_lib.Method.PULL
        return image_format == 'qcow2' and (
            self.compression or (is_stream and self.compression_of_streams)
        )

    def methods(
        self, source_type: storage.SourceType
    ) -> tuple[decision_lib.Method, ...]:
        """Return the methods for a root disk, the preferred one first.

        Where images are made inside Ceph, a disk in Ceph is also pulled: it
        can't be mirrored, and the guest would have to be suspended.
        """
        if source_type is not storage.SourceType.RBD or not self.rbd.pool:
            return self.live_methods
        methods = decision_lib.Method
        return tuple(
            dict.fromkeys(
                (methods.RBD_DIRECT, *self.live_methods, methods.PULL)
            )
        )

    def with_image_pool(self, pool: str | None) -> 'Options':
        """Return the options with the pool of Glance's images in Ceph."""
        return dataclasses.replace(
            self, rbd=dataclasses.replace(self.rbd, pool=pool)
        )

    def completed(self, location: storage.RbdLocation) -> storage.RbdLocation:
        """Return a location with what the configuration has for all."""
        conf = self.ceph_conf
        if conf and location.hosts and not os.path.exists(conf):
            conf = None  # the monitors are known without it
        if not location.conf:
            location = dataclasses.replace(location, conf=conf)
        if not location.user and self.rbd.user:
            location = dataclasses.replace(
                location, user=self.rbd.user, secret=self.rbd.secret
            )
        return location

    def directory(self, method: decision_lib.Method | None) -> pathlib.Path:
        """Return where the temporary files of an extraction are.

        :param method: how the disk is read; None if the path is cold.
        """
        snapshots, *scratch = self.directories()
        if method is decision_lib.Method.PULL and scratch:
            return scratch[0]
        return snapshots

    def directories(self) -> tuple[pathlib.Path, ...]:
        """Return all that directory() can return, as absolute paths."""
        found = (self.snapshots_directory, self.scratch_directory)
        return tuple(path.absolute() for path in found if path)

    def space(self) -> space_lib.Space:
        """Return the space for temporary files."""
        return space_lib.Space(self.reserved_space, self.directories())


@dataclasses.dataclass(frozen=True)
class LibvirtPlan(driver.Plan):
    """A plan, with the decision and the state that it is made from.

    :ivar disks: those that are read, in the order of the images.
    :ivar share: bytes that the extraction may take; 0 if that depends on the
        disks, not on what the guest writes.
    :ivar disk_operation_slot: held while an image is converted.
    :ivar without: makes a plan that does not consider a method.
    """

    decision: decision_lib.Decision
    guest: inspection_lib.Inspection
    disks: tuple[disk_xml.Disk, ...]
    share: int
    quiesce: quiesce_lib.Quiesce
    options: Options
    disk_operation_slot: context_lib.DiskOperationSlot
    hooks: hooks_lib.Hooks
    without: Callable[[decision_lib.Method], 'LibvirtPlan']

    @property
    def method(self) -> str:
        """The method of the live path, or ``cold``."""
        return self.decision.method or self.decision.path

    @property
    def is_streamed(self) -> bool:
        """True if the disks are pulled."""
        return self.decision.method is decision_lib.Method.PULL

    def hardware(self) -> Mapping[str, str]:
        """Return the image properties by the XML."""
        return hardware_lib.image_properties(
            self.guest.xml, self.disks[0].device
        )

    def definition(self) -> str:
        """Return the hardware by the XML, with the disks that are read."""
        devices = [disk.device for disk in self.disks]
        return guest_definition.portable(self.guest.xml, devices)

    @contextlib.contextmanager
    def extracted(
        self, operation: driver.Operation
    ) -> Iterator[driver.Extraction]:
        """Read the disks as was decided."""
        LOG.info(
            'Snapshot of server %(server)s: %(path)s. %(summary)s',
            {
                'server': self.instance.uuid,
                'path': self.decision.path,
                'summary': self.decision.summary,
            },
            instance_uuid=self.instance.uuid,
        )
        if self.decision.method is decision_lib.Method.RBD_DIRECT:
            with rbd_direct.extracted(
                self.guest.guest,
                self._to_read(operation.progress),
                self.quiesce,
                operation,
                self.options.rbd,
            ) as locations:
                yield driver.Extraction(locations)
            return
        with (
            _refusal_translated(),
            self._stop_noticed(),
            self._folder(operation.entry) as folder,
            self.options.space().taken(folder, self.share),
            self._pipeline(self._context(operation, folder)) as disks,
        ):
            yield driver.Extraction(disks)

    def alternatives(self) -> Iterator[driver.Plan]:
        """Yield the plans to read the disk another way.

        The ways are any, if no image can be made inside Ceph, and mirror, if
        libvirt exports no disk.
        """
        if self.decision.method is decision_lib.Method.RBD_DIRECT:
            plan = self.without(self.decision.method)
            yield plan
            yield from plan.alternatives()
            return
        decision, other = self.decision, decision_lib.Method.MIRROR
        if (
            decision.method is decision_lib.Method.PULL
            and other in decision.considered
            and other in decision.possible
        ):
            plan = self.without(decision.method)
            if plan.decision.method is other:
                LOG.warning(
                    'Server %s: libvirt began no backup of its disk, so the '
                    'disk is mirrored.',
                    self.instance.uuid,
                    instance_uuid=self.instance.uuid,
                )
                yield plan

    def _stop_noticed(self) -> contextlib.AbstractContextManager[None]:
        if self.decision.suspends or not self.guest.power_state.is_active:
            return contextlib.nullcontext()
        return guest_stop.noticed(self.guest.guest, self.disks[0].device)

    def _pipeline(
        self, context: context_lib.Context
    ) -> contextlib.AbstractContextManager[tuple[driver.DiskData, ...]]:
        decision, options = self.decision, self.options
        match decision.method:
            case decision_lib.Method.PULL:
                return pull.extracted(context, options.streaming)
            case decision_lib.Method.MIRROR:
                return mirror.extracted(context, options.stall_timeout)
        return cold.extracted(
            context, decision.suspends, options.detach_timeout
        )

    def _context(
        self, operation: driver.Operation, folder: pathlib.Path
    ) -> context_lib.Context:
        return context_lib.Context(
            guest=self.guest.guest,
            disks=self._to_read(operation.progress),
            quiesce=self.quiesce,
            folder=folder,
            space=self.options.space(),
            entry=operation.entry,
            progress=operation.progress,
            disk_operation_slot=self.disk_operation_slot,
            hooks=self.hooks,
            qemu_uid=self._qemu_uid(),
            moment=operation.moment,
        )

    def _to_read(
        self, progress: progress_lib.Progress
    ) -> tuple[context_lib.DiskToRead, ...]:
        sizes = [image.virtual_size for image in self.images]
        return tuple(
            context_lib.DiskToRead(
                disk=disk,
                virtual_size=image.virtual_size,
                image_format=image.format,
                compress=self.options.compresses(
                    image.format, self.decision.method
                ),
                progress=part,
            )
            for disk, image, part in zip(
                self.disks,
                self.images,
                progress_lib.parts(progress, sizes),
                strict=True,
            )
        )

    def _make_scratches(self, folder: pathlib.Path) -> None:
        """Make the scratch files of an export.

        With ``dynamic_ownership = 0`` in its qemu.conf, libvirt would make
        some that QEMU may not write to.
        """
        export = backup_job.Export(folder)
        for number, image in enumerate(self.images):
            scratch = export.scratch(number)
            qemu_img.create_delta(scratch, image.virtual_size, None)

    def _qemu_uid(self) -> int:
        uid = domain_xml.qemu_uid(self.guest.xml)
        return os.geteuid() if uid is None else uid

    @contextlib.contextmanager
    def _folder(self, entry: journal.Entry) -> Iterator[pathlib.Path]:
        """Make a folder that only QEMU and this user can use."""
        folder = self.options.directory(self.decision.method) / str(
            uuid.uuid4()
        )
        with entry.undoing(undo_steps.RemoveFolder(str(folder))):
            if self.decision.method is decision_lib.Method.PULL:
                shared_folder.make(
                    folder, self._qemu_uid(), self._make_scratches
                )
            else:
                # QEMU's user may enter the folder, but not list it.
                shared_folder.make_passable(folder)
            yield folder


@contextlib.contextmanager
def _refusal_translated() -> Iterator[None]:
    """Translate libvirt's refusal of a backup job; nothing was read yet.

    :raises MethodUnavailable: libvirt refused, and the guest runs on.
    """
    try:
        yield
    except exception.BackupRefused as error:
        raise exception.MethodUnavailable(
            method=decision_lib.Method.PULL, reason=error
        ) from error
