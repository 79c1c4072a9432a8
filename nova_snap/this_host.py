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

"""Identity of the current boot of this host.

Data that is written for a later process has this id, by which the process can
tell whether the data is still valid.
"""

import pathlib

#: Random, made by the kernel when it starts.  random(4)
BOOT_ID = pathlib.Path('/proc/sys/kernel/random/boot_id')


def boot_id() -> str | None:
    """Return the id of this boot of the host, or None if it has none."""
    try:
        return BOOT_ID.read_text().strip() or None
    except OSError:
        return None
