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

"""Checks of the programs and libraries that snapshots use."""

from collections.abc import Iterator
import shutil

from nova_snap.nova import settings
from nova_snap.nova.check import findings
from nova_snap.qcow2 import codec
from nova_snap.qcow2 import errors
from nova_snap.qcow2 import libnbd
from nova_snap.virt import decision
from nova_snap.virt.libvirt import plan

#: qemu-img, and the programs that limit its resources.
PROGRAMS = ('qemu-img', 'setpriv', 'prlimit')


def check_programs() -> Iterator[findings.Finding]:
    """Check that the programs are installed."""
    for name in PROGRAMS:
        found = shutil.which(name)
        if found:
            yield findings.ok(name, f'{found}.')
        else:
            yield findings.failed(name, 'it is not on the PATH.')


def check_libnbd() -> Iterator[findings.Finding]:
    """Check that the libraries of pull are installed, if it is configured."""
    options = settings.driver_options()
    if decision.Method.PULL not in options.live_methods:
        yield findings.ok(
            'libnbd', 'not needed: [nova_snap] live_method is mirror.'
        )
        return
    try:
        libnbd.load()
    except errors.LibraryMissing as error:
        yield findings.failed('libnbd', error)
    else:
        yield findings.ok('libnbd', 'its Python binding is installed.')
    yield _compression(options)


def _compression(options: plan.Options) -> findings.Finding:
    name, algorithm = 'compression', options.streaming.compression
    try:
        codec.ALGORITHMS[algorithm](None)
    except errors.LibraryMissing as error:
        if options.compression:
            return findings.failed(name, error)
        return findings.warning(
            name, f'images that are streamed are not compressed: {error}'
        )
    if options.compresses('qcow2', decision.Method.PULL):
        return findings.ok(name, f'{algorithm}, of qcow2 images.')
    return findings.ok(name, 'none: [nova_snap] compression is off.')
