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

"""Diagnosis of a compute host: ``nova-snap nova-check``.

This module is run as a process of its own (``python -m
nova_snap.nova.check``), which imports Nova as nova-compute does and reads its
configuration.  It writes the findings to standard output as JSON;
``nova_snap/cmd/nova_check.py`` shows them.  Nothing on the host is changed.
"""

from collections.abc import Iterator
import dataclasses
import importlib
import importlib.util
import json
import os
import sys
from typing import Any
import warnings

from oslo_config import cfg

from nova_snap.nova.check import findings


def all_findings(arguments: list[str]) -> Iterator[findings.Finding]:
    """Run every check, in the order in which they depend on each other.

    :param arguments: the command line of nova-compute: --config-file etc.
    """
    if importlib.util.find_spec('nova') is None:
        yield findings.failed(
            'Nova',
            f'{sys.executable} has no Nova: run the nova-snap of '
            "nova-compute's environment.",
        )
        return
    try:
        _configure(arguments)
    except (cfg.Error, OSError, UnicodeDecodeError) as error:
        # oslo.config does not translate the error of a file that is no text.
        yield findings.failed('nova.conf', f'it cannot be read: {error}.')
        return
    for check in _checks():
        yield from findings.run(check)


def _checks() -> tuple[findings.Check, ...]:
    # Imported late: these modules import Nova, which has to be configured
    # first.
    from nova_snap.nova.check import configuration
    from nova_snap.nova.check import folders
    from nova_snap.nova.check import installation
    from nova_snap.nova.check import programs
    from nova_snap.nova.check import recovery
    from nova_snap.nova.check import servers

    return (
        installation.check_nova,
        installation.check_hook,
        installation.check_driver,
        configuration.check_configuration,
        configuration.check_options,
        configuration.check_all_disks,
        configuration.check_glance,
        folders.check_user,
        folders.check_state,
        folders.check_folders,
        programs.check_programs,
        programs.check_libnbd,
        recovery.check_recovery,
        servers.check_libvirt,
    )


def _configure(arguments: list[str]) -> None:
    """Read nova.conf as nova-compute does, with native threads."""
    os.environ['OS_NOVA_DISABLE_EVENTLET_PATCHING'] = '1'
    importlib.import_module('nova.monkey_patch')
    import nova.conf

    from nova_snap.nova import settings

    nova.conf.CONF(arguments, project='nova', prog='nova-compute')
    settings.register()


def main(arguments: list[str]) -> None:
    """Write the findings to standard output."""
    # Libraries of Nova import eventlet to see whether it is installed.
    warnings.filterwarnings('ignore', r'\s*Eventlet is deprecated')
    found: list[dict[str, Any]] = [
        dataclasses.asdict(finding) for finding in all_findings(arguments)
    ]
    json.dump(found, sys.stdout)


if __name__ == '__main__':
    main(sys.argv[1:])
