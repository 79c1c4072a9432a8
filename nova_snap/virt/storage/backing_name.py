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

"""Names of backing files in the headers of qcow2 images.

QEMU takes more than paths there.  Open this file to understand another form.
"""

import json
from typing import Any

_FILE = 'file:'
_JSON = 'json:'


def path(name: str, format_name: str) -> str | None:
    """Return the path of the file or device that a name means.

    Three forms are understood: a path, ``file:PATH`` (also ``file:///PATH``),
    and ``json:`` with a path alone, as libvirt and ``qemu-img`` write it.

    :param format_name: the format that the header has for the backing file.
    :returns: None if the name means something else, or more than a path.
    """
    if name.startswith(_FILE):
        return name.removeprefix(_FILE)
    if not name.startswith(_JSON):
        return name
    try:
        fields = _nested(json.loads(name.removeprefix(_JSON)))
    except (ValueError, RecursionError):
        return None
    if 'file' in fields:
        # A layer of the format around the file.
        if fields.pop('driver', format_name) != format_name:
            return None
        fields = fields.pop('file') if len(fields) == 1 else {}
    return _path(fields)


def _path(fields: Any) -> str | None:
    # Other fields, such as an offset, would change what is read.
    if not isinstance(fields, dict) or set(fields) != {'driver', 'filename'}:
        return None
    if fields['driver'] not in ('file', 'host_device'):
        return None
    filename = fields['filename']
    return filename if isinstance(filename, str) else None


def _nested(fields: Any) -> dict[str, Any]:
    """Return fields with ``file.NAME`` as ``NAME`` within ``file``."""
    if not isinstance(fields, dict):
        raise ValueError('it is no JSON object')
    found: dict[str, Any] = {}
    for key, value in fields.items():
        outer, _, inner = key.partition('.')
        if outer != 'file' or not inner:
            found[key] = value
        elif isinstance(found.setdefault('file', {}), dict):
            found['file'][inner] = value
    return found
