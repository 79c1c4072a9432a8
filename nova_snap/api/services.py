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

"""The objects that do the work of a request, put together once."""

import dataclasses
import time

from nova_snap.api import actions as actions_lib
from nova_snap.api import context as context_lib
from nova_snap.api import metrics as metrics_lib
from nova_snap.api import policy as policy_lib
from nova_snap.api import power as power_lib
from nova_snap.api import rebuilds as rebuilds_lib
from nova_snap.api import snapshots as snapshots_lib
from nova_snap.compute import manager as manager_lib
from nova_snap.conf import api as api_conf
from nova_snap.image import api as image_api
from nova_snap.virt import driver as driver_lib


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of ``[api]`` that handlers need."""

    default_project_id: str
    hostname: str
    metrics: str = api_conf.METRICS_LOCAL


@dataclasses.dataclass(frozen=True)
class Services:
    """The objects behind the handlers.

    :ivar snapshots: those that run and wait; ``manager`` does the work.
    :ivar images: the image service with the login of this service.
    """

    driver: driver_lib.ComputeDriver
    manager: manager_lib.SnapshotManager
    snapshots: snapshots_lib.Snapshots
    power: power_lib.PowerActions
    rebuilds: rebuilds_lib.Rebuilds
    actions: actions_lib.Actions
    images: image_api.ImageService
    policy: policy_lib.Policy
    options: Options
    metrics: metrics_lib.Metrics = dataclasses.field(
        default_factory=metrics_lib.Metrics
    )

    def stop(self, timeout: float) -> None:
        """Begin nothing any more; return when everything has ended.

        :param timeout: seconds for what is going on to end by itself.
        """
        ends_at = time.monotonic() + timeout
        self.power.close()
        self.rebuilds.close()
        self.snapshots.stop(timeout)
        self.rebuilds.stop(max(0, ends_at - time.monotonic()))
        self.power.stop(max(0, ends_at - time.monotonic()))

    def images_of(
        self, context: context_lib.Context, shared_with: str | None = None
    ) -> image_api.ImageService:
        """Return the image service as the user of a request may use it.

        :param shared_with: see :meth:`.ImageService.as_user`.
        """
        if context.access is None:
            return self.images
        return self.images.as_user(context.access, shared_with)
