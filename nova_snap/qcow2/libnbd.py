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

"""Import of the distribution's Python binding of libnbd.

The binding is not on PyPI.  In a virtual environment without the system's
packages a plain import fails, so the two files of ``python3-libnbd`` are
loaded by their paths, and nothing else from their directory.  The extension
module works with one minor version of CPython only, which is in its file
name; a module for another version is not found.
"""

import functools
import importlib
import importlib.machinery
import importlib.util
import pathlib
import sys
from types import ModuleType

from nova_snap.qcow2 import errors

#: Directories in which distributions install modules for their own Python.
_DIRECTORIES = (
    '/usr/lib/python3/dist-packages',
    '/usr/lib64/python{0.major}.{0.minor}/site-packages',
    '/usr/lib/python{0.major}.{0.minor}/site-packages',
)


@functools.cache
def load() -> ModuleType:
    """Import the module ``nbd``.

    :raises LibraryMissing: it is not installed for this version of Python.
    """
    try:
        return importlib.import_module('nbd')
    except ImportError:
        pass
    for directory in _DIRECTORIES:
        path = pathlib.Path(directory.format(sys.version_info))
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            extension = path / f'libnbdmod{suffix}'
            if extension.exists():
                # nbd.py imports libnbdmod by its name.
                _load_file('libnbdmod', extension)
                return _load_file('nbd', path / 'nbd.py')
    raise errors.LibraryMissing("libnbd's Python binding", 'python3-libnbd')


def _load_file(name: str, path: pathlib.Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise errors.LibraryMissing(str(path), 'python3-libnbd')
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
