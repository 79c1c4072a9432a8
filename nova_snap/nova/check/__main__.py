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

"""Whether this host is set up for the driver: ``nova-snap nova-check``.

Runs as a process of its own (``python -m nova_snap.nova.check``), which
imports Nova as nova-compute does and reads its configuration; the findings are
written to standard output as JSON.  The command that shows them is
``nova_snap/cmd/nova_check.py``.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import importlib
import importlib.util
import json
import os
import sys
from typing import Any
import warnings

from oslo_config import cfg

from nova_snap import exception
from nova_snap.conf import nova as conf
from nova_snap.nova import finder
from nova_snap.nova import findings

#: What nova.conf has to say.
DRIVER = 'nova_snap.LibvirtDriver'

#: Releases of Nova that the driver was tried with, by their first number.
TESTED = ('34',)
LOADED = ('32', '33')

#: The groups of nova.conf that snapshots read, besides our own.
GROUPS = ('libvirt', 'workarounds', 'ephemeral_storage_encryption', 'glance')


def check_nova() -> Iterator[findings.Finding]:
    """Nova is in this Python's environment, in a release that is known."""
    from nova import version

    number = version.version_string()
    major = number.partition('.')[0]
    if major in TESTED:
        yield findings.ok('Nova', f'{number}.')
    elif major in LOADED:
        yield findings.warning(
            'Nova', f'{number}: it loads there, no more is tested.'
        )
    else:
        yield findings.warning(
            'Nova', f'{number}: this release was not tried.'
        )


def check_hook() -> Iterator[findings.Finding]:
    """Nova's name leads to our module, as in nova-compute."""
    check = 'import path'
    is_hooked = finder.HOOK in (
        getattr(found, '__name__', '') for found in sys.meta_path
    )
    spec = importlib.util.find_spec(finder.NAME)
    if spec is not None:
        yield findings.ok(check, f'{finder.NAME} is {spec.origin}.')
    elif not is_hooked:
        yield findings.failed(
            check,
            'nova_snap.pth was not read by this Python: install nova-snap '
            "into nova-compute's environment.",
        )
    else:
        yield findings.failed(check, f'{finder.MODULE} was not found.')


def check_driver() -> Iterator[findings.Finding]:
    """The driver can be imported, and Nova has what it calls."""
    module = importlib.import_module(finder.NAME)
    devices = importlib.import_module('nova_snap.nova.devices')
    missing = [
        name
        for name in devices.USED
        if not hasattr(module.LibvirtDriver, name)
    ]
    if missing:
        yield findings.failed(
            'driver', f'this Nova has no {", ".join(missing)}.'
        )
    else:
        yield findings.ok('driver', 'it loads, and Nova has what it calls.')


def check_configuration() -> Iterator[findings.Finding]:
    """nova.conf names the driver."""
    import nova.conf

    conf = nova.conf.CONF
    files = ', '.join(conf.config_file or []) or 'no file'
    if conf.compute_driver == DRIVER:
        yield findings.ok('compute_driver', f'{DRIVER} (read: {files}).')
    else:
        yield findings.failed(
            'compute_driver',
            f'it is {conf.compute_driver}: set [DEFAULT] compute_driver = '
            f'{DRIVER} (read: {files}).',
        )


def check_options() -> Iterator[findings.Finding]:
    """Every value is one that its option takes."""
    import nova.conf

    wrong = [
        wrong
        for group in (*GROUPS, conf.GROUP)
        for wrong in _wrong_values(group, nova.conf.CONF[group])
    ]
    yield from wrong
    if not wrong:
        yield findings.ok('options', 'their values are valid.')
    _forget_wrong_values()


def _wrong_values(
    group: str, options: Mapping[str, Any]
) -> Iterator[findings.Finding]:
    for name in options:
        try:
            options[name]
        except cfg.ConfigSourceValueError as error:
            # What is around it names the place in the words of Python.
            reason = error.__context__ or error
            yield findings.failed('options', f'[{group}] {name}: {reason}.')


def _forget_wrong_values() -> None:
    """Go on with the defaults of ours, so that the rest can be looked at."""
    import nova.conf

    for option in conf.OPTS:
        try:
            nova.conf.CONF[conf.GROUP][option.dest]
        except cfg.ConfigSourceValueError:
            nova.conf.CONF.set_override(
                option.dest, option.default, conf.GROUP
            )


def run(check: findings.Check) -> Iterator[findings.Finding]:
    """The findings of a check; one that breaks off has failed."""
    name = check.__name__.removeprefix('check_')
    try:
        yield from check()
    except cfg.ConfigSourceValueError:
        yield findings.failed(name, 'not looked at: see options.')
    except exception.NovaSnapError as error:
        yield findings.failed(name, error)
    except OSError as error:
        where = f'{error.filename}: ' if error.filename else ''
        yield findings.failed(name, f'{where}{error.strerror or error}.')
    except Exception as error:
        yield findings.failed(name, f'{type(error).__name__}: {error}')


def all_findings(arguments: list[str]) -> Iterator[findings.Finding]:
    """Everything, in the order in which one depends on the other.

    :param arguments: those of nova-compute: --config-file and so on.
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
        # oslo.config lets through what a file that is no text raises.
        yield findings.failed('nova.conf', f'it cannot be read: {error}.')
        return
    from nova_snap.nova import check_host

    for check in (
        check_nova,
        check_hook,
        check_driver,
        check_configuration,
        check_options,
        *check_host.CHECKS,
    ):
        yield from run(check)


def _configure(arguments: list[str]) -> None:
    """As nova-compute does, with native threads."""
    os.environ['OS_NOVA_DISABLE_EVENTLET_PATCHING'] = '1'
    importlib.import_module('nova.monkey_patch')
    import nova.conf

    from nova_snap.nova import settings

    nova.conf.CONF(arguments, project='nova', prog='nova-compute')
    settings.register()


def main(arguments: list[str]) -> None:
    """Write the findings."""
    # Libraries of Nova import it to see whether it is there.
    warnings.filterwarnings('ignore', r'\s*Eventlet is deprecated')
    found: list[dict[str, Any]] = [
        dataclasses.asdict(finding) for finding in all_findings(arguments)
    ]
    json.dump(found, sys.stdout)


if __name__ == '__main__':
    main(sys.argv[1:])
