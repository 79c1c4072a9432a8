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

"""Checks of the Python environment: Nova, our import hook, and the driver."""

from collections.abc import Iterator
import importlib
import importlib.util
import sys

from nova import objects
from nova import version

from nova_snap.nova import finder
from nova_snap.nova import interface
from nova_snap.nova.check import findings

#: Releases of Nova with which all tests were run, and with which the driver
#: was only loaded, by their first number.
TESTED = ('34',)
LOADED = ('32', '33')


def check_nova() -> Iterator[findings.Finding]:
    """Check that Nova's release is one that the driver was tested with."""
    number = version.version_string()
    major = number.partition('.')[0]
    if major in TESTED:
        yield findings.ok('Nova', f'{number}.')
    elif major in LOADED:
        yield findings.warning(
            'Nova',
            f'{number}: only loading the driver was tested with this release.',
        )
    else:
        yield findings.warning(
            'Nova', f'{number}: the driver was not tested with this release.'
        )


def check_hook() -> Iterator[findings.Finding]:
    """Check that Python finds the driver by Nova's name for it."""
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
    """Check that the driver can be imported, and Nova has what it calls."""
    importlib.import_module(finder.NAME)
    objects.register_all()
    missing, changed = interface.missing(), interface.changed()
    if missing:
        yield findings.failed(
            'driver', f'this Nova has no {", ".join(missing)}.'
        )
    if changed:
        yield findings.failed(
            'driver',
            f'this Nova has other parameters for {", ".join(changed)}.',
        )
    if not missing and not changed:
        yield findings.ok('driver', 'it loads, and Nova has what it calls.')
