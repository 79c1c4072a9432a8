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

"""Factories that make the objects of the core from the configuration.

This is the only module, besides the adapters with their own ``from_conf``,
that reads options.  Open it to add an option to the core.
"""

import pathlib
from typing import Any

from oslo_config import cfg
from oslo_utils import units

from nova_snap import exception
from nova_snap import journal
from nova_snap import locks as locks_lib
from nova_snap import state_folder
from nova_snap import this_host
from nova_snap.compute import manager
from nova_snap.compute.volume_backed import moment as volume_moment
from nova_snap.compute.volume_backed import plan as volume_backed
from nova_snap.qcow2 import codec
from nova_snap.virt import decision
from nova_snap.virt.libvirt import driver
from nova_snap.virt.libvirt import hooks
from nova_snap.virt.libvirt import host
from nova_snap.virt.libvirt import plan
from nova_snap.virt.libvirt import power
from nova_snap.virt.libvirt import rbd_steps
from nova_snap.virt.libvirt.extraction import pull
from nova_snap.virt.libvirt.extraction import rbd_direct
from nova_snap.virt.libvirt.snapshots import firmware_state
from nova_snap.virt.storage import backing_chain
from nova_snap.volume import api as volume_api

#: The live methods that each value of [snapshot] live_method admits.
LIVE_METHODS = {
    'mirror': (decision.Method.MIRROR,),
    'pull': (decision.Method.PULL,),
    'auto': (decision.Method.PULL, decision.Method.MIRROR),
}

#: The directory in which nova-compute prepares its snapshots.
NOVA_SNAPSHOTS_DIRECTORY = pathlib.Path('/var/lib/nova/instances/snapshots')


def libvirt_driver(
    conf: cfg.ConfigOpts, guest_hooks: hooks.Hooks = hooks.NONE
) -> driver.LibvirtDriver:
    """Make the driver for the guests of ``[libvirt] connection_uri``."""
    options = driver_options(conf, conf.snapshot, conf.libvirt.quiesce_timeout)
    return driver.LibvirtDriver(
        host.Host(conf.libvirt.connection_uri),
        options.with_image_pool(conf.snapshot.rbd_pool),
        _locks(conf).disk_operation_slot,
        guest_hooks,
        power.Timeouts(
            conf.shutdown_timeout, conf.libvirt.wait_soft_reboot_seconds
        ),
    )


def snapshot_manager(
    conf: cfg.ConfigOpts, hypervisor: driver.LibvirtDriver | None = None
) -> manager.SnapshotManager:
    """Make the manager.

    :param hypervisor: the driver, where there is one already.
    :raises NotPermitted: this user can't write to ``[DEFAULT] state_path``.
    :raises InvalidConfiguration: ``[DEFAULT] state_path`` is no directory.
    """
    state_path = pathlib.Path(conf.state_path)
    try:
        state_path.mkdir(mode=0o755, parents=True, exist_ok=True)
        state_folder.make(state_path / 'journal')
    except PermissionError as error:
        raise exception.NotPermitted(
            f'This user may not write to {state_path}; run as root, or set '
            '[DEFAULT] state_path.'
        ) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise exception.InvalidConfiguration(
            option='[DEFAULT] state_path',
            reason=f'{state_path} is no directory.',
        ) from error
    hypervisor = hypervisor or libvirt_driver(conf)
    volumes = volume_service(conf)
    return manager.SnapshotManager(
        hypervisor,
        journal.Journal(
            state_path / 'journal',
            this_host.origin(conf.libvirt.connection_uri),
        ),
        _locks(conf),
        conf.non_inheritable_image_properties,
        conf.snapshot.cancel_check_interval,
        volume_backed.VolumeBacked(
            hypervisor,
            volumes,
            volume_moment.Options(
                snapshot_timeout=conf.cinder.snapshot_timeout,
                frozen_timeout=conf.cinder.frozen_timeout,
            ),
            conf.non_inheritable_image_properties,
        ),
        conf.snapshot.max_parallel_disks,
    )


def volume_service(conf: cfg.ConfigOpts) -> volume_api.VolumeService | None:
    """Make the adapter for Cinder; return None if ``[cinder]`` has no login.

    :raises InvalidConfiguration: ``[cinder]`` has an incomplete login.
    """
    # Imported on demand, since they are slow: see nova_snap/conf/__init__.py.
    from nova_snap.conf import cinder as cinder_conf
    from nova_snap.volume import cinder

    cinder_conf.register_opts(conf)
    if not (conf.cinder.auth_type or conf.cinder.auth_section):
        return None
    return cinder.CinderVolumeService.from_conf(conf)


def _locks(conf: cfg.ConfigOpts) -> locks_lib.Locks:
    return locks_lib.Locks(
        pathlib.Path(conf.state_path) / 'locks',
        conf.max_concurrent_snapshots,
        conf.max_concurrent_disk_ops,
    )


def driver_options(
    conf: cfg.ConfigOpts,
    own: Any,
    quiesce_timeout: int,
    *backing_directories: pathlib.Path,
) -> plan.Options:
    """Return the driver's options from a configuration with Nova's options.

    Glance's pool in Ceph is not among them: Nova has a way to find it.

    :param own: the group with the options of :mod:`nova_snap.conf.snapshot`.
    :param quiesce_timeout: in seconds.
    :param backing_directories: besides those that the options name.
    """
    return plan.Options(
        snapshots_directory=_snapshots_directory(conf),
        image_format=conf.libvirt.snapshot_image_format,
        compression=conf.libvirt.snapshot_compression,
        compression_of_streams=own.compression == 'auto'
        and codec.is_installed(own.compression_type),
        live_disabled=conf.workarounds.disable_libvirt_livesnapshot,
        ephemeral_encryption=conf.ephemeral_storage_encryption.enabled,
        quiesce_timeout=quiesce_timeout,
        detach_timeout=conf.libvirt.device_detach_timeout,
        stall_timeout=own.mirror_stall_timeout,
        reserved_space=own.reserved_space_mb * units.Mi,
        live_methods=LIVE_METHODS[own.live_method],
        streaming=_pull_options(own),
        rbd=_rbd_options(conf, own),
        scratch_directory=_optional_path(own.scratch_directory),
        scratch_share=own.scratch_percent / 100,
        scratch_minimum=own.scratch_min_mb * units.Mi,
        ceph_conf=conf.libvirt.images_rbd_ceph_conf,
        chain_reader=backing_chain.Reader(
            (
                *map(pathlib.Path, own.backing_file_directories),
                *backing_directories,
            )
        ),
        firmware=firmware_state.Store(
            pathlib.Path(conf.state_path) / 'firmware'
        ),
    )


def _pull_options(own: Any) -> pull.Options:
    return pull.Options(
        compression=own.compression_type,
        compression_threads=own.compression_threads,
        connections=own.export_connections,
        bandwidth_limit=own.bandwidth_limit_mb * units.Mi,
    )


def _rbd_options(conf: cfg.ConfigOpts, own: Any) -> rbd_direct.Options:
    return rbd_direct.Options(
        flatten=rbd_steps.Flatten(own.rbd_flatten),
        user=conf.libvirt.rbd_user,
        secret=conf.libvirt.rbd_secret_uuid,
    )


def _optional_path(text: str | None) -> pathlib.Path | None:
    return pathlib.Path(text) if text else None


def _snapshots_directory(conf: cfg.ConfigOpts) -> pathlib.Path:
    if conf.libvirt.snapshots_directory:
        return pathlib.Path(conf.libvirt.snapshots_directory)
    if NOVA_SNAPSHOTS_DIRECTORY.is_dir():
        return NOVA_SNAPSHOTS_DIRECTORY
    return pathlib.Path(conf.state_path) / 'snapshots'
