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

"""What schemathesis has to know of the API; it loads this module."""

from hypothesis import strategies
import schemathesis

#: Names of images as Nova allows them, printable and trimmed, and as the
#: database of Glance does: of characters of three bytes at most.
NAMES = strategies.text(
    strategies.characters(
        categories=['L', 'N', 'P', 'S'], max_codepoint=0xFFFF
    ),
    min_size=1,
    max_size=255,
)

schemathesis.openapi.format('name', NAMES)
