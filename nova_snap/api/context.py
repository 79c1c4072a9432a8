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

"""The user on whose behalf a request is handled."""

import dataclasses
from typing import Any
from typing import Self

from oslo_context import context as log_context

from nova_snap.objects import instance as instance_lib


@dataclasses.dataclass(frozen=True)
class Context:
    """The identity behind a request.

    :ivar is_admin: may work with the servers of all projects.
    :ivar access: what Keystone knows of the token, which other services are
        asked with; None where there is no Keystone.
    """

    request_id: str
    user_id: str | None = None
    project_id: str | None = None
    roles: tuple[str, ...] = ()
    is_admin: bool = False
    access: Any = dataclasses.field(default=None, repr=False)

    @classmethod
    def anonymous(cls, request_id: str) -> Self:
        """Return the context of a request that needs no identity."""
        return cls(request_id)

    def note(self) -> None:
        """Have the log lines of this thread name the request and its user.

        So have those of the threads that it starts from now on.
        """
        log_context.RequestContext(
            request_id=self.request_id,
            user_id=self.user_id,
            project_id=self.project_id,
        )

    def owns(
        self, instance: instance_lib.Instance, default_project_id: str
    ) -> bool:
        """Return True if an instance belongs to the project of the request.

        :param default_project_id: the project of instances that name none.
        """
        owner = instance.project_id or default_project_id
        return self.project_id == owner
