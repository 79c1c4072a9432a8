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


"""A check of raw disks whose image nobody else inspects.

Glance inspects what is uploaded, not what it is told the location of.  A guest
can write a header of another format to its raw disk, and a program that probes
formats would follow the header to other files.
"""

import io


class NotRaw(ValueError):
    """The beginning of a disk is that of another format."""


def require(data: bytes) -> None:
    """Raise an error if a raw disk claims to be of another format.

    A partition table is none.

    :param data: the first bytes of the disk.
    :raises NotRaw: the disk does so, or may do so.
    """
    if _is_vmdk_descriptor(data):
        raise NotRaw('the raw disk begins as the text of a VMDK image does.')
    # It takes a tenth of a second, and most commands need no inspector.
    from oslo_utils.imageutils import format_inspector as inspector_lib

    inspector = inspector_lib.InspectWrapper(io.BytesIO(data))
    inspector.read(len(data))
    inspector.close()
    try:
        found = inspector.format
        if found is None or str(found) not in ('raw', 'gpt'):
            raise NotRaw(
                f'the raw disk begins as an image of format {found} does.'
            )
        found.safety_check()
    except (
        inspector_lib.ImageFormatError,
        inspector_lib.SafetyCheckFailed,
    ) as error:
        raise NotRaw(
            f'the format of the raw disk is not certain: {error}.'
        ) from error


def _is_vmdk_descriptor(data: bytes) -> bool:
    """Return True if QEMU takes data for VMDK, which may name other files.

    oslo.utils knows such a text only behind a binary header.
    """
    for line in data.split(b'\n'):
        if line.strip() and not line.startswith(b'#'):
            return line.startswith(b'version=')
    return False
