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

"""The options that Glance runs with while snapshots are measured.

Open this file to measure with others; ``doc/source/admin/performance.rst`` is
about those here.
"""

from collections.abc import Mapping
import dataclasses


@dataclasses.dataclass(frozen=True)
class GlanceOptions:
    """Options of ``glance-api.conf``.

    :ivar main: of ``[DEFAULT]``.
    :ivar store: of the section of the file store.
    """

    main: Mapping[str, object] = dataclasses.field(default_factory=dict)
    store: Mapping[str, object] = dataclasses.field(default_factory=dict)


def lines(options: Mapping[str, object]) -> str:
    """Return the lines of a section."""
    return '\n'.join(f'{name} = {value}' for name, value in options.items())


#: By their names on the command line.
DEFAULT = 'default'
ALL = {
    DEFAULT: GlanceOptions(),
    'tuned': GlanceOptions(
        main={'hashing_algorithm': 'sha256'},
        store={'filesystem_store_chunk_size': 4 << 20},
    ),
}
