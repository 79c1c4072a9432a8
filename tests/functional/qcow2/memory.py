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

"""How much memory a piece of Python needs."""

import subprocess
import sys

# Not getrusage: its maximum includes the process that forked this one.
_REPORT = r"""
import re
with open('/proc/self/status') as status:
    print(re.search(r'VmHWM:\s+(\d+)', status.read()).group(1))
"""


def peak(script: str) -> int:
    """Bytes of resident memory at most, in a process of its own."""
    printed = subprocess.check_output([sys.executable, '-c', script + _REPORT])
    return int(printed.split()[-1]) << 10
