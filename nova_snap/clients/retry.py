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

"""Retries of requests to a service after transient errors.

Open this file to change how often a request is sent again, and after which
pauses.  Which errors are transient is in ``keystone.py``.
"""

from collections.abc import Callable

from oslo_log import log as logging
import tenacity

from nova_snap import progress as progress_lib
from nova_snap.clients import keystone

LOG = logging.getLogger(__name__)

#: Seconds between two tries of a request: at first, and at most.
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0


def retrying(
    service: str,
    tries: int,
    progress: progress_lib.Progress | None = None,
    can_repeat: Callable[[], bool] = lambda: True,
) -> tenacity.Retrying:
    """Return a caller of functions that retries after transient errors.

    The error of the last try is raised unchanged.

    :param service: the name of the service, for the log.
    :param tries: the maximum number of calls.
    :param progress: of the operation; a cancellation ends a pause.
    :param can_repeat: asked after a transient error; False ends the retries.
    """

    def is_worth_it(error: BaseException) -> bool:
        return keystone.is_retriable(error) and can_repeat()

    def log(state: tenacity.RetryCallState) -> None:
        LOG.warning(
            'A request to %(service)s failed (try %(number)d): %(error)s; '
            'the next try is in %(pause).1f s',
            {
                'service': service,
                'number': state.attempt_number,
                'error': state.outcome and state.outcome.exception(),
                'pause': state.upcoming_sleep,
            },
        )

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_worth_it),
        stop=tenacity.stop_after_attempt(tries),
        wait=tenacity.wait_exponential_jitter(
            initial=FIRST_PAUSE, max=LONGEST_PAUSE, jitter=FIRST_PAUSE
        ),
        sleep=(progress or progress_lib.Progress()).wait,
        before_sleep=log,
        reraise=True,
    )
