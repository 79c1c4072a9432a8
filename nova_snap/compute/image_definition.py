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

"""The property by which an image carries the definition of its guest.

The image of the root disk has it.  How the definition is made and read is the
driver's business: for libvirt see ``virt/libvirt/guest_definition.py``.
"""

import dataclasses

from oslo_log import log as logging

from nova_snap.compute import image_record
from nova_snap.image import api as image_api
from nova_snap.image import schema
from nova_snap.virt import driver as driver_lib

LOG = logging.getLogger(__name__)

PROPERTY = f'{image_record.OWN_PREFIX}definition'


def added(record: image_api.Image, plan: driver_lib.Plan) -> image_api.Image:
    """Return a record with the definition of the plan's guest, if any.

    A definition that is too long for the image service is left out: the image
    is worth more than that.
    """
    definition = plan.definition()
    if not definition:
        return record
    if len(definition.encode()) > schema.MAX_VALUE:
        LOG.warning(
            'The definition of server %s is too long for a property of its '
            'image, which does not carry it.',
            plan.instance.uuid,
            instance_uuid=plan.instance.uuid,
        )
        return record
    return dataclasses.replace(
        record, properties={**record.properties, PROPERTY: definition}
    )
