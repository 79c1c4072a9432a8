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

"""Import finder by which nova-compute finds the driver.

nova-compute can import only modules below ``nova.virt.``, by the name in
``[DEFAULT] compute_driver``.  ``nova_snap.pth``, which setup.py puts beside
the package, adds a finder at the end of ``sys.meta_path``.  Python asks this
finder for modules that no other finder has found; for
``nova.virt.nova_snap`` it calls :func:`find_spec`.  So no file of Nova is
changed, no file has to lie in Nova's folder, and a Python that does not ask
for the driver does not import this package.

The reasons and the alternatives are in doc/source/install/nova-loading.rst.
"""

import importlib.machinery
import importlib.util

NAME = 'nova.virt.nova_snap'

#: The module of this project that Nova imports under that name.
MODULE = 'nova_snap.nova.plugin'

#: The name of the finder's class in nova_snap.pth.
HOOK = 'NovaSnapFinder'


def find_spec() -> importlib.machinery.ModuleSpec | None:
    """Return the spec of the driver's module, under Nova's name for it."""
    ours = importlib.util.find_spec(MODULE)
    if ours is None or ours.origin is None:
        return None
    return importlib.util.spec_from_file_location(NAME, ours.origin)
