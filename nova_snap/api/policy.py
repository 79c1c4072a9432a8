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

"""Checks of policies, for the user of a request.

``policies.py`` has the defaults; an operator's own rules are in the file that
``[oslo_policy] policy_file`` names, which is read again when it changes.
"""

import threading

from oslo_config import cfg
from oslo_log import log as logging
from oslo_policy import policy

from nova_snap import exception
from nova_snap.api import context as context_lib
from nova_snap.api import policies

LOG = logging.getLogger(__name__)

#: What reading a policy file raises.
_UNUSABLE = (cfg.Error, OSError, ValueError)


class Policy:
    """The policies of the service.

    :raises InvalidConfiguration: the operator's file can't be used.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._lock = threading.Lock()
        self._enforcer = policy.Enforcer(conf)
        self._enforcer.register_defaults(policies.list_rules())
        try:
            self._enforcer.load_rules()
        except _UNUSABLE as error:
            raise exception.InvalidConfiguration(
                option='[oslo_policy] policy_file', reason=str(error)
            ) from error

    def allows(
        self, context: context_lib.Context, rule: str, project_id: str | None
    ) -> bool:
        """Return True if a user may do something to what a project has.

        :param rule: the name of a policy.
        """
        # A token with another scope has no project; see keystone_auth.py.
        credentials = {
            'user_id': context.user_id,
            'project_id': context.project_id,
            'roles': list(context.roles),
            'is_admin': context.is_admin,
        }
        target = {'project_id': project_id}
        # One thread must not see the rules that another is still loading.
        with self._lock:
            self._reload()
            return bool(self._enforcer.authorize(rule, target, credentials))

    def _reload(self) -> None:
        """Read files that have changed; go on with the old rules if need be.

        The enforcer would read them for each check, and raise.
        """
        self._enforcer.use_conf = True
        try:
            self._enforcer.load_rules()
        except _UNUSABLE as error:
            LOG.error(
                'The policy file can not be used, the rules of before go on: '
                '%s',
                error,
            )
        finally:
            self._enforcer.use_conf = False
