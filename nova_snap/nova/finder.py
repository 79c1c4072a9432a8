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

"""How nova-compute finds the driver: as ``nova.virt.nova_snap``.

nova-compute imports ``nova.virt.`` and what ``[DEFAULT] compute_driver``
says, and nothing else.  ``nova_snap.pth``, which setup.py puts beside the
package, adds a finder at the end of Python's list; it is asked for what no
other has found, and comes here when Nova's name for the driver is wanted.  So
no file of Nova is touched, none has to lie in its folder, and a Python that
never asks does not even import this package.

Why so, and what else was tried: doc/source/install/nova-loading.rst.
"""

import importlib.machinery
import importlib.util

NAME = 'nova.virt.nova_snap'

#: The module of ours that Nova gets under that name.
MODULE = 'nova_snap.nova.plugin'

#: The name of the finder's class in nova_snap.pth.
HOOK = 'NovaSnapFinder'


def find_spec() -> importlib.machinery.ModuleSpec | None:
    """Our module, under Nova's name for it."""
    ours = importlib.util.find_spec(MODULE)
    if ours is None or ours.origin is None:
        return None
    return importlib.util.spec_from_file_location(NAME, ours.origin)
