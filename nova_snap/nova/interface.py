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

"""Every name of Nova's Python code, and every option, that this project uses.

Nova guarantees none of them to other projects: any release may change one.
``nova-snap nova-check`` looks for each name in the Nova of its host.  The
tests compare the list with a real Nova, and with the names that
``nova_snap/nova`` uses: add a name here before you use it.
"""

from collections.abc import Mapping
import dataclasses
import dis
import functools
import importlib.util
import inspect
import pkgutil
from typing import Any

#: Classes with many of the names.
DRIVER = 'nova.virt.libvirt.driver:LibvirtDriver'
IMAGE_API = 'nova.image.glance:API'
INSTANCE = 'nova.objects:Instance'
MDEV = 'nova.virt.libvirt.config:LibvirtConfigGuestHostdevMDEV'


@dataclasses.dataclass(frozen=True)
class Name:
    """One name.

    :ivar where: its module, or ``module:Class``.
    :ivar name: of a module's or class's member, or of an attribute that
        instances of the class have.
    :ivar parameters: Nova's names of the positional arguments; None if the
        name is not called.
    :ivar keywords: the keyword arguments.
    :ivar formerly: the name in an earlier release, which is used as well.
    :ivar value: the class of an attribute's value.
    """

    where: str
    name: str
    parameters: tuple[str, ...] | None = None
    keywords: tuple[str, ...] = ()
    formerly: str | None = None
    value: str | None = None

    def __str__(self) -> str:
        return f'{self.where.replace(":", ".")}.{self.name}'

    def is_there(self) -> bool:
        """Return True if this process's Nova has the name."""
        try:
            owner = pkgutil.resolve_name(self.where)
        except (ImportError, AttributeError):
            return False
        return any(
            _has(owner, name) for name in (self.name, self.formerly) if name
        )

    def takes_parameters(self) -> bool:
        """Return True if Nova's function accepts the arguments used here."""
        if self.parameters is None:
            return True
        values = dict.fromkeys(self.keywords)
        try:
            self.signature().bind(*self.parameters, **values)
        except TypeError:
            return False
        return True

    def signature(self) -> inspect.Signature:
        """Return the signature of Nova's function, without ``self``."""
        owner = pkgutil.resolve_name(self.where)
        name = self.name
        if self.formerly and not _has(owner, name):
            name = self.formerly
        function = getattr(owner, name)
        if isinstance(function, functools.partial):
            # The decorator of oslo.privsep hides the function in one.
            function = function.args[0]
        signature = inspect.signature(function)
        if inspect.isclass(owner) and _needs_self(owner, name):
            _self, *parameters = signature.parameters.values()
            signature = signature.replace(parameters=parameters)
        return signature


def missing() -> list[str]:
    """Return the names that this process's Nova does not have.

    Nova's objects are registered and its driver is imported by the caller.
    """
    return [str(name) for name in NAMES if not name.is_there()]


def changed() -> list[str]:
    """Return the names that Nova has, but with other parameters.

    Nova's objects are registered and its driver is imported by the caller.
    """
    return [
        str(name)
        for name in NAMES
        if name.is_there() and not name.takes_parameters()
    ]


def _has(owner: Any, name: str) -> bool:
    if isinstance(owner, Mapping):
        # A group of options.  No value is read: one may be invalid.
        return name in owner
    if hasattr(owner, name):
        return True
    if hasattr(owner, '__path__'):
        # The name may be a module that has not been imported.
        return importlib.util.find_spec(f'{owner.__name__}.{name}') is not None
    return inspect.isclass(owner) and any(
        name in _set_by(vars(kind).get('__init__')) for kind in owner.__mro__
    )


def _set_by(function: Any) -> set[str]:
    """Return the names of the attributes that a Python function sets."""
    if not inspect.isfunction(function):
        return set()
    return {
        instruction.argval
        for instruction in dis.get_instructions(function)
        if instruction.opname == 'STORE_ATTR'
    }


def _needs_self(owner: type, name: str) -> bool:
    return inspect.isfunction(inspect.getattr_static(owner, name))


def _read(where: str, *names: str) -> tuple[Name, ...]:
    """Return names that are read, not called."""
    return tuple(Name(where, name) for name in names)


def _raised(*names: str) -> tuple[Name, ...]:
    """Return exceptions that are raised with a sentence of ours."""
    return tuple(Name('nova.exception', name, ('message',)) for name in names)


NAMES: tuple[Name, ...] = (
    # The driver: methods that are overridden, and methods that are called.
    Name(DRIVER, '__init__', ('virtapi', 'read_only')),
    Name(DRIVER, 'init_host', ('host',)),
    Name(
        DRIVER,
        'snapshot',
        ('context', 'instance', 'image_id', 'update_task_state'),
    ),
    Name(
        DRIVER,
        '_create_snapshot_metadata',
        ('image_meta', 'instance', 'img_fmt', 'snp_name'),
    ),
    Name(DRIVER, '_can_quiesce', ('instance', 'image_meta')),
    Name(DRIVER, '_uri', ()),
    Name(DRIVER, '_host', value='nova.virt.libvirt.host:Host'),
    Name(DRIVER, '_image_api', value=IMAGE_API),
    Name(DRIVER, 'cpu_api', value='nova.virt.libvirt.cpu.api:API'),
    # Devices of the host.
    Name(
        DRIVER,
        '_attach_direct_passthrough_ports',
        ('context', 'instance', 'guest', 'network_info'),
    ),
    Name(DRIVER, '_attach_mediated_devices', ('guest', 'devs')),
    Name(DRIVER, '_attach_pci_devices', ('guest', 'pci_devs')),
    Name(
        DRIVER,
        '_detach_direct_passthrough_ports',
        ('context', 'instance', 'guest'),
    ),
    Name(DRIVER, '_detach_mediated_devices', ('guest',)),
    Name(DRIVER, '_detach_pci_devices', ('guest', 'pci_devs')),
    Name(DRIVER, '_get_mdevs_from_guest_config', ('xml',)),
    Name('nova.virt.libvirt.config', 'LibvirtConfigGuestHostdevMDEV', ()),
    Name(MDEV, 'uuid'),
    Name('nova.network.model', 'NetworkInfo', ('iterable',)),
    Name('nova.objects:InstancePCIRequest', 'FLAVOR_ALIAS'),
    Name('nova.objects:PciDevice', 'address'),
    # Objects that are attributes of the driver.
    Name('nova.virt.libvirt.host:Host', 'get_guest', ('instance',)),
    Name(
        'nova.virt.libvirt.cpu.api:API', 'power_up_for_instance', ('instance',)
    ),
    # Functions.
    Name('nova.virt.libvirt.utils', 'find_disk', ('guest',)),
    Name('nova.virt.libvirt.utils', 'get_disk_type_from_path', ('path',)),
    Name('nova.privsep.path', 'chown', ('path',), ('uid',)),
    Name('nova.context', 'get_admin_context', ()),
    Name('nova.compute.utils', 'disk_ops_semaphore'),
    Name('nova', 'monkey_patch'),
    Name('nova.version', 'version_string', ()),
    Name('nova.objects', 'register_all', ()),
    Name('nova.utils', 'get_image_from_system_metadata', ('system_meta',)),
    # Glance.
    Name(IMAGE_API, 'get', ('context', 'id_or_uri'), ('include_locations',)),
    Name(
        IMAGE_API,
        'update',
        ('context', 'id_or_uri', 'image_info'),
        ('purge_props',),
    ),
    Name('nova.image.glance', 'get_api_servers', ('context',)),
    Name(
        'nova.service_auth',
        'get_service_user_token_auth_plugin',
        ('context',),
        formerly='get_auth_plugin',
    ),
    # The instance.
    Name(INSTANCE, 'get_by_uuid', ('context', 'uuid'), ('expected_attrs',)),
    Name(INSTANCE, 'get_pci_devices', (), ('source',)),
    Name(INSTANCE, 'save', ()),
    Name(INSTANCE, 'flavor', value='nova.objects:Flavor'),
    Name(INSTANCE, 'image_meta', value='nova.objects:ImageMeta'),
    Name(INSTANCE, 'info_cache', value='nova.objects:InstanceInfoCache'),
    *_read(
        INSTANCE,
        'display_name',
        'host',
        'image_ref',
        'name',
        'numa_topology',
        'pci_devices',
        'pci_requests',
        'progress',
        'project_id',
        'system_metadata',
        'task_state',
        'user_id',
        'uuid',
        'vm_state',
    ),
    *_read('nova.objects:Flavor', 'memory_mb', 'name', 'root_gb'),
    Name(
        'nova.objects:ImageMeta',
        'properties',
        value='nova.objects:ImageMetaProps',
    ),
    Name('nova.objects:ImageMetaProps', 'get', ('name', 'defvalue')),
    Name('nova.objects:ImageMetaProps', 'os_require_quiesce'),
    Name('nova.objects:InstanceInfoCache', 'network_info'),
    *_read(
        'nova.compute.task_states',
        'DELETING',
        'IMAGE_PENDING_UPLOAD',
        'IMAGE_SNAPSHOT',
        'IMAGE_UPLOADING',
    ),
    *_read('nova.compute.vm_states', 'ACTIVE', 'PAUSED', 'RESCUED', 'RESIZED'),
    Name(
        'nova.objects:MigrationList', 'get_by_filters', ('context', 'filters')
    ),
    Name('nova.objects:Migration', 'status'),
    Name('nova.objects.fields:MigrationType', 'EVACUATION'),
    # Errors.
    Name('nova.exception', 'InstanceNotFound', (), ('instance_id',)),
    Name('nova.exception', 'InstanceNotRunning', (), ('instance_id',)),
    Name('nova.exception', 'NovaException'),
    *_raised(
        'GlanceConnectionFailed',
        'HypervisorUnavailable',
        'ImageBadRequest',
        'ImageNotAuthorized',
        'ImageNotFound',
        'ImageQuotaExceeded',
        'InstanceQuiesceFailed',
        'InternalError',
    ),
    # Options; those of [libvirt] and others are also read in factory.py.
    *_read(
        'nova.conf:CONF',
        'compute_driver',
        'host',
        'instances_path',
        'state_path',
    ),
    Name('nova.conf:CONF.ephemeral_storage_encryption', 'enabled'),
    *_read(
        'nova.conf:CONF.glance',
        'api_servers',
        'endpoint_override',
        'num_retries',
        'rbd_pool',
        'region_name',
        'service_name',
        'service_type',
        'valid_interfaces',
    ),
    Name('nova.conf:CONF.image_cache', 'subdirectory_name'),
    *_read(
        'nova.conf:CONF.libvirt',
        'device_detach_timeout',
        'images_rbd_ceph_conf',
        'rbd_secret_uuid',
        'rbd_user',
        'snapshot_compression',
        'snapshot_image_format',
        'snapshots_directory',
        'virt_type',
    ),
    Name('nova.conf:CONF.workarounds', 'disable_libvirt_livesnapshot'),
)
