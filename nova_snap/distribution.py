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

"""Import of modules that come with the distribution only, not from PyPI.

In a virtual environment without the system's packages a plain import fails,
so the files of such a package are loaded by their paths, and nothing else
from their directory.  An extension module works with one minor version of
CPython only, which is in its file name; a module for another version is not
found.
"""

import importlib
import importlib.machinery
import importlib.util
import pathlib
import sys
from types import ModuleType

#: Directories in which distributions install modules for their own Python.
_DIRECTORIES = (
    '/usr/lib/python3/dist-packages',
    '/usr/lib64/python{0.major}.{0.minor}/site-packages',
    '/usr/lib/python{0.major}.{0.minor}/site-packages',
)


def load(*names: str) -> tuple[ModuleType, ...]:
    """Import modules of one package, in an order that they can be loaded in.

    :raises ImportError: they are not installed for this version of Python.
    """
    try:
        return tuple(map(importlib.import_module, names))
    except ImportError:
        pass
    for directory in _DIRECTORIES:
        folder = pathlib.Path(directory.format(sys.version_info))
        paths = [_path(folder, name) for name in names]
        if None not in paths:
            return tuple(map(_load_file, names, paths))
    raise ImportError(f'{", ".join(names)} not found')


def _path(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    suffixes = (*importlib.machinery.EXTENSION_SUFFIXES, '.py')
    paths = (folder / f'{name}{suffix}' for suffix in suffixes)
    return next((path for path in paths if path.exists()), None)


def _load_file(name: str, path: pathlib.Path | None) -> ModuleType:
    # Files of the package import each other by their names.
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f'{path} cannot be loaded')
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
