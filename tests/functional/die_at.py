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

"""Run nova-snap in a process that kills itself at a given step.

    python -m tests.functional.die_at before MODULE:NAME ARGUMENT...

"before" and "after" are the moments right before the call of the function
NAME (``Class.method`` or ``function``) in MODULE and right after it returned;
"after.2" is that of the second call.
The product has no such hooks: the function is wrapped here.
"""

from collections.abc import Callable
import functools
import importlib
import itertools
import os
import signal
import sys
from typing import Any


def die() -> None:
    """Die as a process does that the kernel kills: with no clean-up."""
    os.kill(os.getpid(), signal.SIGKILL)


def wrap(moment: str, step: str, action: Callable[[], None] = die) -> None:
    """Replace the function of a step by one that acts before or after it.

    :param moment: "before" or "after", maybe with the number of the call from
        which on it acts, as in "after.2".
    """
    moment, _, number = moment.partition('.')
    calls = itertools.count(1)
    module_name, _, path = step.partition(':')
    owner: Any = importlib.import_module(module_name)
    *parents, name = path.split('.')
    for parent in parents:
        owner = getattr(owner, parent)
    function = getattr(owner, name)

    @functools.wraps(function)
    def acting(*args: Any, **kwargs: Any) -> Any:
        is_due = next(calls) >= int(number or 1)
        if is_due and moment == 'before':
            action()
        result = function(*args, **kwargs)
        if is_due and moment == 'after':
            action()
        return result

    setattr(owner, name, acting)


if __name__ == '__main__':
    wrap(sys.argv[1], sys.argv[2])
    from nova_snap.cmd import shell

    sys.exit(shell.main(sys.argv[3:]))
