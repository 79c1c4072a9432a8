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

"""The service ``nova-snap-api``: arguments, configuration, signals."""

import os
import sys

from nova_snap import concurrency

concurrency.choose_backend()

# Below, since eventlet has to patch before anything else is imported.
import signal  # noqa: E402
import time  # noqa: E402
from typing import Any  # noqa: E402

from oslo_config import cfg  # noqa: E402
from oslo_log import log as logging  # noqa: E402

from nova_snap import conf  # noqa: E402
from nova_snap import exception  # noqa: E402
from nova_snap.conf import api as api_conf  # noqa: E402

#: This module may run as __main__.
LOG = logging.getLogger('nova_snap.cmd.api')

#: Seconds between two looks for a signal.
POLL_INTERVAL = 0.2


class Signals:
    """The signals that end the service.

    A handler only sets a flag: it may have interrupted anything, such as a
    thread that holds a lock.
    """

    def __init__(self) -> None:
        self.is_asked_to_end = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, _number: int, _frame: Any) -> None:
        self.is_asked_to_end = True

    def wait(self) -> None:
        """Wait until the service is asked to end."""
        while not self.is_asked_to_end:
            time.sleep(POLL_INTERVAL)


def serve() -> None:
    """Serve until a signal ends that."""
    # Imported on demand: only now is it known that they are needed.
    from nova_snap.api import activation
    from nova_snap.api import deploy
    from nova_snap.api import server

    signals = Signals()
    own = conf.CONF.api
    listener = activation.inherited()
    authentication = deploy.authentication(conf.CONF, listener)
    services = deploy.from_conf(conf.CONF)
    application = deploy.application(services, authentication, conf.CONF)
    if listener is None:
        listener = server.listening(own.listen, own.port)
    LOG.info('Listening on %s.', listener.getsockname())
    tls = server.Tls(own.cert_file, own.key_file) if own.cert_file else None
    stop = server.start(listener, application, tls)
    signals.wait()
    LOG.info('Stopping: no action is accepted any more.')
    # Meanwhile clients may ask what becomes of theirs.
    services.stop(own.graceful_shutdown_timeout)
    stop()


def main(argv: list[str] | None = None) -> int:
    """Run the service, and return its exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        api_conf.set_up(conf.CONF, arguments)
        if concurrency.BACKEND_VARIABLE not in os.environ:
            _begin_again(conf.CONF.api.concurrency_backend, arguments)
        serve()
    except (cfg.Error, exception.NovaSnapError, OSError) as error:
        print(f'nova-snap-api: {error}', file=sys.stderr)
        return 1
    return 0


def _begin_again(backend: str, arguments: list[str]) -> None:
    """Run this program with a backend that only the configuration names.

    eventlet has to patch a process before anything else is imported.
    """
    os.environ[concurrency.BACKEND_VARIABLE] = backend
    if backend == 'eventlet':
        os.execv(  # noqa: S606  # nosec B606
            sys.executable,
            [sys.executable, '-m', 'nova_snap.cmd.api', *arguments],
        )


if __name__ == '__main__':
    sys.exit(main())
