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


"""Run nova-snap in a process in which a request to Ceph fails once.

    python -m tests.functional.fail_at before MODULE:NAME ARGUMENT...

"before" fails without the request; "after" makes it and loses the answer.
"""

import sys

from nova_snap import exception
from tests.functional import die_at

_failed: list[bool] = []


def fail() -> None:
    """Fail at the first call."""
    if not _failed:
        _failed.append(True)
        raise exception.CephError(action='do this', reason='as told.')


if __name__ == '__main__':
    die_at.wrap(sys.argv[1], sys.argv[2], fail)
    from nova_snap.cmd import shell

    sys.exit(shell.main(sys.argv[3:]))
