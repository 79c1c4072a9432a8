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

"""nova-compute's side of ``tests/openstack/gates.py``; read that first.

Python imports this module by its name when it starts.  It must import
neither Nova nor eventlet, nor anything that either would have to patch.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from typing import Any

FOLDER = os.environ.get('NOVA_SNAP_TEST_GATES', '')


def stop_at(point: str) -> None:
    """Do what the folder says for a point, ``upload.before`` say."""
    import signal
    import time

    path = os.path.join(FOLDER, point)
    if os.path.exists(path + '.die'):
        os.kill(os.getpid(), signal.SIGKILL)
    if os.path.exists(path + '.hold'):
        open(path + '.seen', 'w').close()
    while os.path.exists(path + '.hold'):
        time.sleep(0.05)


def wrap(owner: Any, name: str, step: str) -> None:
    """Let a function of a module or a class stop before and after."""
    import functools

    function = getattr(owner, name)

    @functools.wraps(function)
    def stopping(*args: Any, **kwargs: Any) -> Any:
        stop_at(f'{step}.before')
        result = function(*args, **kwargs)
        stop_at(f'{step}.after')
        return result

    setattr(owner, name, stopping)


class Finder(importlib.abc.MetaPathFinder):
    """Wraps what it is told to in the modules that have it.

    :param steps: by module: name of the step and path of the function each.
    """

    def __init__(self, steps: dict[str, list[tuple[str, str]]]) -> None:
        self._steps = steps

    def find_spec(
        self, name: str, path: Any = None, target: Any = None
    ) -> Any:
        """Let the usual finder load it, and wrap afterwards."""
        steps = self._steps.get(name)
        if steps is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None:
            return None
        load = spec.loader.exec_module

        def load_and_wrap(module: Any) -> None:
            load(module)
            for step, function in steps:
                *parents, last = function.split('.')
                owner = module
                for parent in parents:
                    owner = getattr(owner, parent)
                wrap(owner, last, step)

        spec.loader.exec_module = load_and_wrap
        return spec


def install() -> None:
    """Look at the imports from now on."""
    import json

    with open(os.path.join(FOLDER, 'steps.json')) as file:
        table = json.load(file)
    steps: dict[str, list[tuple[str, str]]] = {}
    for step, function in table.items():
        module, _, path = function.partition(':')
        steps.setdefault(module, []).append((step, path))
    sys.meta_path.insert(0, Finder(steps))


if FOLDER:
    install()
