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

"""A snapshot that is ready to be taken: what the manager needs to know of it.

Whatever can be found out beforehand has been; the guest was not touched, and
nothing exists yet.
"""

from collections.abc import Callable
import dataclasses
from typing import TypeAlias

from nova_snap import journal
from nova_snap import progress as progress_lib
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.virt import driver

Take: TypeAlias = Callable[
    [journal.Entry, progress_lib.Progress, driver.UpdateTaskState], None
]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The image record to create, and how it becomes an active image.

    ``take`` is called when the record exists.  When it returns, the image is
    active; when it raises, the entry has what is still owed.
    """

    instance: instance_lib.Instance
    record: image_api.Image
    take: Take
