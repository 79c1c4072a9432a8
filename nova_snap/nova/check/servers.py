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

"""Checks of libvirt and QEMU, and of the servers that run on this host."""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

import nova.conf

from nova_snap import exception
from nova_snap.compute.volume_backed import plan as volume_backed
from nova_snap.nova import glance_pool
from nova_snap.nova import settings
from nova_snap.nova.check import findings
from nova_snap.objects import instance as instance_lib
from nova_snap.virt import decision as decision_lib
from nova_snap.virt.libvirt import driver as driver_lib
from nova_snap.virt.libvirt import host as host_lib
from nova_snap.virt.libvirt import plan
from nova_snap.virt.libvirt import policy

CONF = nova.conf.CONF

#: The first QEMU that reads the compression type zstd in a qcow2's header.
MIN_QEMU_ZSTD = (5, 1, 0)


def check_libvirt() -> Iterator[findings.Finding]:
    """Check libvirt and QEMU, and how each server's snapshot would be taken.

    This is one check, so that a libvirt that does not answer is one finding.
    """
    host = host_lib.Host(settings.connection_uri())
    options = settings.driver_options()
    methods = options.live_methods
    versions = (host.libvirt_version(), host.hypervisor_version())
    virt_type = CONF.libvirt.virt_type
    if settings.is_left_to_nova():
        yield findings.ok(
            'servers',
            f'by the driver of Nova: [libvirt] virt_type is {virt_type}.',
        )
        return
    for name, version, minimum in (
        ('libvirt', versions[0], policy.MIN_LIBVIRT),
        ('QEMU', versions[1], policy.MIN_QEMU),
    ):
        yield _version(name, version, minimum, methods, host.uri)
    if (
        options.compresses('qcow2', methods[0])
        and options.streaming.compression == 'zstd'
    ):
        yield _zstd(versions[1])
    for instance, _state in _driver(host, options).instances():
        yield _server(host, options, instance)


def _driver(
    host: host_lib.Host, options: plan.Options
) -> driver_lib.LibvirtDriver:
    return driver_lib.LibvirtDriver(
        host, options, settings.disk_operation_slot
    )


def _version(
    name: str,
    version: policy.Version,
    minimum: Mapping[decision_lib.Method, policy.Version],
    methods: Sequence[decision_lib.Method],
    uri: str,
) -> findings.Finding:
    dotted = '.'.join(map(str, version))
    missing = [method for method in methods if version < minimum[method]]
    if not missing:
        return findings.ok(name, f'{dotted} at {uri}.')
    text = f'{dotted}: too old for {" and ".join(missing)}'
    if len(missing) == len(methods):
        text += ', so servers that run are suspended for their snapshots'
    return findings.warning(name, f'{text}.')


def _zstd(qemu: policy.Version) -> findings.Finding:
    """Return whether this host can read what it writes.

    Of the other hosts it knows nothing: they may have another QEMU.
    """
    name = 'zstd'
    if qemu < MIN_QEMU_ZSTD:
        return findings.warning(
            name,
            'QEMU before 5.1 can start no server from an image that is '
            'compressed by zstd, and its qemu-img can convert none '
            '([DEFAULT] force_raw_images): set [nova_snap] compression_type '
            '= zlib.',
        )
    return findings.ok(
        name,
        'this host can read images that are compressed by zstd; every host '
        'that starts servers from them needs QEMU 5.1, too.',
    )


def _server(
    host: host_lib.Host,
    options: plan.Options,
    instance: instance_lib.Instance,
) -> findings.Finding:
    """Return how a snapshot of a server would be taken now."""
    check = f'server {instance.uuid}'
    driver = _driver(host, options)
    try:
        if volume_backed.is_volume_backed(driver.block_devices(instance)):
            return findings.ok(
                check,
                'by nova-api: it boots from a volume, and Cinder takes a '
                'snapshot of each of its volumes.',
            )
        unknown = ''
        if driver.rbd_root_disk(instance) is not None:
            pool = glance_pool.find(host, driver, instance)
            driver = _driver(host, settings.in_ceph(options, pool))
            if pool is None:
                # A request has a token, with which Glance can be asked.
                unknown = ' unless Glance says that the base image is in Ceph'
        decision = driver.explain(instance)
    except exception.NovaSnapError as error:
        return findings.warning(check, error)
    result = findings.warning if decision.suspends else findings.ok
    how = str(decision.method or decision.path)
    return result(check, f'{how}{unknown}. {decision.summary}')
