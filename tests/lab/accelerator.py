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

"""Whether this host's KVM really runs guests, or emulation has to do.

``/dev/kvm`` proves nothing: nested on some clouds it is there and guests hang
before their first line.  So one guest is booted, once per boot of the host.
"""

import pathlib
import subprocess
import tempfile
import time

from tests.lab import guest_image
from tests.lab import paths

#: Seconds that a guest gets under KVM, where it needs less than one.
PROBE_TIMEOUT = 6.0

BOOT_ID = pathlib.Path('/proc/sys/kernel/random/boot_id')


def virt_type() -> str:
    """``kvm`` or ``qemu``, as a domain's XML wants it."""
    memory = paths.cache() / 'virt-type'
    key = BOOT_ID.read_text().strip()
    image = guest_image.get()
    with paths.locked('virt-type'):
        if not memory.exists() or memory.read_text().split()[0] != key:
            found = 'kvm' if _kvm_boots(image) else 'qemu'
            memory.write_text(f'{key} {found}\n')
        return memory.read_text().split()[1]


def _kvm_boots(image: guest_image.GuestImage) -> bool:
    with tempfile.TemporaryDirectory(dir=paths.cache()) as work:
        console = pathlib.Path(work) / 'console'
        console.touch()
        process = subprocess.Popen(
            ['qemu-system-x86_64', '-accel', 'kvm', '-m', '160']
            + ['-nodefaults', '-no-user-config', '-display', 'none']
            + ['-kernel', image.kernel, '-initrd', image.initrd]
            + ['-append', 'quiet console=ttyS0']
            + ['-serial', f'file:{console}'],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            return _says_hello(process, console)
        finally:
            process.kill()
            process.wait()


def _says_hello(
    process: subprocess.Popen[bytes], console: pathlib.Path
) -> bool:
    deadline = time.monotonic() + PROBE_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        if b'GUEST-UP' in console.read_bytes():
            return True
        time.sleep(0.05)
    return False
