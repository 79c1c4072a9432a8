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

"""How nova-compute runs: the driver, its method, threads or eventlet."""

from collections.abc import Mapping
import dataclasses

from tests.openstack import conf

OURS = 'nova_snap.LibvirtDriver'
NOVAS = 'libvirt.LibvirtDriver'


@dataclasses.dataclass(frozen=True)
class Mode:
    """What differs from one nova-compute to the next.

    :ivar driver: ``[DEFAULT] compute_driver``: the one line that an operator
        changes.
    :ivar method: ``[nova_snap] live_method``.
    :ivar backend: ``[DEFAULT] concurrency_backend``.
    :ivar options: any others, each as ``(section, name, value)``.
    """

    driver: str = OURS
    method: str = 'mirror'
    backend: str = 'threading'
    options: tuple[tuple[str, str, str], ...] = ()

    def __str__(self) -> str:
        if self.driver == NOVAS:
            return f"Nova's own driver, {self.backend}"
        return f'{self.method}, {self.backend}'

    def with_options(self, options: Mapping[str, str]) -> 'Mode':
        """Return the mode with more options, by ``section.name``."""
        pairs = [
            (*key.rpartition('.')[::2], value)
            for key, value in options.items()
        ]
        return dataclasses.replace(self, options=(*self.options, *pairs))

    def sections(self) -> conf.Sections:
        """Return the sections for nova-compute's own configuration."""
        sections: conf.Sections = {
            'DEFAULT': {
                'compute_driver': self.driver,
                'concurrency_backend': self.backend,
            }
        }
        if self.driver == OURS:
            sections['nova_snap'] = {'live_method': self.method}
        for section, name, value in self.options:
            sections.setdefault(section, {})[name] = value
        return sections


#: Nova's own driver, to compare with.
UNMODIFIED = Mode(driver=NOVAS)
