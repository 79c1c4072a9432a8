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

"""Writes the servers' configuration, and what several of them share."""

from collections.abc import Mapping
import pathlib

from tests.openstack import layout as layout_lib

Sections = dict[str, dict[str, object]]


def write(path: pathlib.Path, *parts: Mapping[str, object]) -> pathlib.Path:
    """Write an ini file; a later part overrides an earlier one.

    :param parts: options by section each.
    """
    merged: Sections = {}
    for part in parts:
        for section, options in part.items():
            merged.setdefault(section, {}).update(options)  # type: ignore
    lines = []
    for section, options in merged.items():
        lines.append(f'[{section}]')
        lines += [f'{name} = {value}' for name, value in options.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(lines) + '\n')
    path.chmod(0o600)
    return path


def credentials(layout: layout_lib.Layout, user: str) -> dict[str, object]:
    """Return the options by which a service logs in to keystone."""
    return {
        'auth_type': 'password',
        'auth_url': layout.url('keystone', '/v3'),
        'username': user,
        'password': layout_lib.SECRET,
        'project_name': 'service',
        'user_domain_id': 'default',
        'project_domain_id': 'default',
        'region_name': layout_lib.REGION,
    }


def token_check(layout: layout_lib.Layout, user: str) -> Sections:
    """How an API checks the tokens that it gets."""
    return {
        'keystone_authtoken': {
            **credentials(layout, user),
            'www_authenticate_uri': layout.url('keystone', '/v3'),
            'memcached_servers': f'127.0.0.1:{layout.ports.memcached}',
            'service_token_roles': 'service',
            'service_token_roles_required': 'true',
        }
    }


def database_url(layout: layout_lib.Layout, name: str) -> str:
    """How SQLAlchemy reaches a database."""
    return (
        f'mysql+pymysql://root@localhost/{name}'
        f'?unix_socket={layout.database_socket}&charset=utf8mb4'
    )


def message_queue_url(layout: layout_lib.Layout) -> str:
    """How oslo.messaging reaches RabbitMQ."""
    return f'rabbit://guest:guest@127.0.0.1:{layout.ports.rabbitmq}/'


def common(layout: layout_lib.Layout, name: str) -> Sections:
    """Return the options of every server; the database has its name."""
    return {
        'DEFAULT': {'transport_url': message_queue_url(layout)},
        'oslo_concurrency': {'lock_path': layout.folder(name, 'lock')},
        'oslo_messaging_notifications': {'driver': 'noop'},
        'database': {
            'connection': database_url(layout, name),
            'max_pool_size': 5,
            'max_overflow': 10,
        },
    }
