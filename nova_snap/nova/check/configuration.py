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

"""Checks of nova.conf: the driver is named, and the values are valid."""

from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import nova.conf
from oslo_config import cfg

from nova_snap import factory
from nova_snap.conf import nova as conf
from nova_snap.nova.check import findings
from nova_snap.virt import decision

CONF = nova.conf.CONF

#: The value that compute_driver must have.
DRIVER = 'nova_snap.LibvirtDriver'

#: The groups of nova.conf that snapshots read, besides our own.
GROUPS = ('libvirt', 'workarounds', 'ephemeral_storage_encryption', 'glance')


def check_configuration() -> Iterator[findings.Finding]:
    """Check that nova.conf names the driver."""
    files = ', '.join(CONF.config_file or []) or 'no file'
    if CONF.compute_driver == DRIVER:
        yield findings.ok('compute_driver', f'{DRIVER} (read: {files}).')
    else:
        yield findings.failed(
            'compute_driver',
            f'it is {CONF.compute_driver}: set [DEFAULT] compute_driver = '
            f'{DRIVER} (read: {files}).',
        )


def check_options() -> Iterator[findings.Finding]:
    """Check that every value is valid for its option."""
    wrong = [
        wrong
        for group in (*GROUPS, conf.GROUP)
        for wrong in _wrong_values(group, CONF[group])
    ]
    yield from wrong
    if not wrong:
        yield findings.ok('options', 'their values are valid.')
    _forget_wrong_values()


def check_all_disks() -> Iterator[findings.Finding]:
    """Check that all disks of a server that runs can be read, if wanted."""
    name, group = 'all_disks', CONF[conf.GROUP]
    if not group.all_disks:
        yield findings.ok(name, 'of those images whose request says so.')
    elif decision.Method.PULL not in factory.LIVE_METHODS[group.live_method]:
        yield findings.warning(
            name,
            'images of servers that run are of the root disk only: the other '
            'disks need [nova_snap] live_method = pull or auto.',
        )
    else:
        yield findings.ok(name, 'of each image.')


def check_glance() -> Iterator[findings.Finding]:
    """Say where to look for what limits uploads: not in nova.conf."""
    yield findings.ok(
        'Glance',
        'how fast it takes images depends on options of its own, which cannot '
        'be seen from here: look at filesystem_store_chunk_size and '
        "hashing_algorithm in glance-api.conf (operator's guide, "
        '"How fast Glance takes the image").',
    )


def _wrong_values(
    group: str, options: Mapping[str, Any]
) -> Iterator[findings.Finding]:
    for name in options:
        try:
            options[name]
        except cfg.ConfigSourceValueError as error:
            # The outer error names the place in terms of Python code.
            reason = error.__context__ or error
            yield findings.failed('options', f'[{group}] {name}: {reason}.')


def _forget_wrong_values() -> None:
    """Replace invalid values by defaults, so that later checks can run."""
    for option in conf.OPTS:
        try:
            CONF[conf.GROUP][option.dest]
        except cfg.ConfigSourceValueError:
            CONF.set_override(option.dest, option.default, conf.GROUP)
