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

"""What stands below the help of a command: nothing.

cliff would name the package that a command comes from, for each command that
is run.  To find out, it reads the metadata of every package that is installed:
0.2 s where there are 200.
"""


class NoEpilog:
    """Mixin of a command whose help has no epilog."""

    def get_epilog(self) -> str:
        """Return the epilog."""
        return ''
