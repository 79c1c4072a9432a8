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

"""The service, put together from the configuration."""

from collections.abc import Callable
import fcntl
import os
import pathlib
import socket
from typing import IO
from typing import Any

from oslo_config import cfg
from oslo_log import log as logging
from oslo_middleware import http_proxy_to_wsgi
from oslo_middleware import request_id
from oslo_utils import units

from nova_snap import exception
from nova_snap import factory
from nova_snap.api import actions as actions_lib
from nova_snap.api import activation
from nova_snap.api import app
from nova_snap.api import auth
from nova_snap.api import cross_origin
from nova_snap.api import metrics as metrics_lib
from nova_snap.api import policy
from nova_snap.api import power as power_lib
from nova_snap.api import rebuilds
from nova_snap.api import recovery
from nova_snap.api import services as services_lib
from nova_snap.api import snapshots
from nova_snap.api.db import api as db_api
from nova_snap.compute import power
from nova_snap.image import api as image_api

LOG = logging.getLogger(__name__)

Wsgi = Callable[..., Any]

#: Files whose locks are held for as long as this process lives.
_HELD: list[IO[str]] = []


class RequestId(request_id.RequestId):
    """Gives each request an ID, and tells it under Nova's older name, too."""

    compat_headers = ['x-compute-request-id']


def from_conf(conf: cfg.ConfigOpts) -> services_lib.Services:
    """Make the objects behind the handlers, after a recovery.

    :raises Conflict: another process serves this state directory.
    """
    driver = factory.libvirt_driver(conf)
    manager = factory.snapshot_manager(conf, driver)
    images = image_api.from_conf(conf)

    state_path = pathlib.Path(conf.state_path)
    _require_alone(state_path / 'api.lock')
    actions = actions_lib.Actions(
        db_api.Database(state_path / 'api.sqlite'), conf.api.host_name
    )
    actions.forget_old()
    powers = power.PowerManager(
        driver, manager, conf.api.power_actions_on_nova_servers
    )
    # What the service makes by its own login it sees, too.
    hides = None
    if conf.api.auth_strategy == 'keystone':
        hides = images.may_hide
        _warn_of_logins(conf, images)
    recovery.Recovery(manager, images, actions, powers.vm_state, hides).start()

    metrics = metrics_lib.Metrics()
    running = snapshots.Snapshots(manager, _limit(conf), metrics)
    metrics.observe(running)

    return services_lib.Services(
        driver=driver,
        manager=manager,
        snapshots=running,
        power=power_lib.PowerActions(powers),
        rebuilds=rebuilds.Rebuilds(
            driver,
            manager,
            images,
            conf.api.power_actions_on_nova_servers,
            conf.snapshot.max_image_disk_gb * units.Gi,
        ),
        actions=actions,
        images=images,
        policy=policy.Policy(conf),
        options=services_lib.Options(
            default_project_id=conf.api.default_project_id,
            hostname=conf.api.host_name,
            metrics=conf.api.metrics,
        ),
        metrics=metrics,
    )


def _warn_of_logins(
    conf: cfg.ConfigOpts, images: image_api.ImageService
) -> None:
    """Log what the logins of the service can't do for users with Keystone."""
    if conf.snapshot.image_service != 'glance':
        return
    if not conf.service_user.send_service_user_token:
        LOG.warning(
            '[service_user] send_service_user_token is not set: an image '
            'fails if the token of its user expires meanwhile.'
        )
    try:
        if images.may_hide(None):
            LOG.warning(
                'The login of [glance] has not the role admin: of images that '
                'were being made when this service was killed, it can neither '
                'know nor remove any.'
            )
    except exception.NovaSnapError as error:
        LOG.warning('The login of [glance] could not be checked: %s', error)


def _require_alone(path: pathlib.Path) -> None:
    """Raise Conflict unless this is the only process of the service.

    What another one has begun would be taken for interrupted.
    """
    # Not readable for others, who could lock it then.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    held = os.fdopen(os.open(path, flags, 0o600), 'r+')
    os.fchmod(held.fileno(), 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        held.close()
        raise exception.Conflict(
            f'Another nova-snap-api works in {path.parent}; a WSGI server '
            'must run it in one process.'
        ) from None
    _HELD.append(held)


def _limit(conf: cfg.ConfigOpts) -> int:
    """Return how many snapshots may run and wait; 0: any number."""
    running: int = conf.max_concurrent_snapshots
    waiting: int = conf.api.max_waiting_snapshots
    return running + waiting if running else 0


def application(
    services: services_lib.Services,
    authenticate: app.Authenticate,
    conf: cfg.ConfigOpts | None = None,
) -> Wsgi:
    """Put the application and its middleware together.

    :param conf: has the options of the middleware; None: their defaults.
    """
    wsgi: Wsgi = app.Application(services, authenticate)
    if conf is not None:
        wsgi = cross_origin.wrapped(wsgi, conf)
    wsgi = http_proxy_to_wsgi.HTTPProxyToWSGI(wsgi, conf)
    return RequestId(wsgi)


def authentication(
    conf: cfg.ConfigOpts, listener: socket.socket | None = None
) -> app.Authenticate:
    """Make what finds out who sends a request.

    :param listener: listens already, wherever; None: ``[api] listen`` does.
    :raises InvalidConfiguration: the service could be misused.
    """
    own = conf.api
    if own.auth_strategy == 'keystone':
        # Imported on demand: what it needs is slow to import.
        from nova_snap.api import keystone_auth

        return keystone_auth.Keystone(conf)
    address, is_for_all = own.listen, False
    if listener is not None:
        address = activation.address(listener)
        is_for_all = activation.is_for_all(listener)
    auth.require_safe(
        own.auth_strategy, address, bool(own.cert_file), is_for_all
    )
    if own.auth_strategy == 'http_basic':
        return auth.HttpBasic(
            own.http_basic_auth_user_file, own.default_project_id
        )
    return auth.NoAuth(own.default_project_id)
