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

"""Import of the distribution's Python binding of libnbd."""

import functools
from types import ModuleType

from nova_snap import distribution
from nova_snap.qcow2 import errors


@functools.cache
def load() -> ModuleType:
    """Import the module ``nbd``.

    :raises LibraryMissing: it is not installed for this version of Python.
    """
    try:
        return distribution.load('libnbdmod', 'nbd')[-1]
    except ImportError as error:
        raise errors.LibraryMissing(
            "libnbd's Python binding", 'python3-libnbd'
        ) from error
