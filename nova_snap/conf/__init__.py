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

"""The configuration options, one module per group.

``CONF`` is read at the edges only (entry points, factories) and passed on as
values, so that a pipeline can be tested without a configuration.  The entry
points of the command register the options; inside nova-compute ``CONF`` is
Nova's, which has most of them itself (see ``nova.py``).

The options of Glance and Cinder need keystoneauth, whose import takes longer
than many a command runs; the adapters register these options when they are
made.
"""

from oslo_config import cfg

from nova_snap.conf import base
from nova_snap.conf import libvirt
from nova_snap.conf import snapshot

CONF = cfg.CONF


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options of the core on ``conf``."""
    for module in (base, libvirt, snapshot):
        module.register_opts(conf)
