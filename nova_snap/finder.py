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
says, and nothing else.  A finder at the end of Python's list is asked for
what no other has found, and knows that one name; so no file of Nova is
touched, and none has to lie in its folder.

``nova_snap.pth``, which setup.py puts beside the package, runs this in every
Python of the environment: nothing heavy may be imported here.  Why it is done
so, and what else was tried, is in doc/source/install/nova-loading.rst.
"""

import sys

NAME = 'nova.virt.nova_snap'

#: The module of ours that Nova gets under that name.
MODULE = 'nova_snap.nova.plugin'


class Finder:
    """A finder on sys.meta_path that knows one module."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None):  # type: ignore[no-untyped-def]  # noqa: E501
        """The specification of Nova's name for our module."""
        if name != NAME:
            return None
        # Only now that it is wanted: this module is read at every start.
        import importlib.util

        ours = importlib.util.find_spec(MODULE)
        if ours is None or ours.origin is None:
            return None
        return importlib.util.spec_from_file_location(NAME, ours.origin)


def install() -> None:
    """Put the finder last, once."""
    if Finder not in sys.meta_path:
        sys.meta_path.append(Finder)
