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

"""Tells keystone about the other services: users, services, endpoints."""

import openstack

from tests.openstack import layout as layout_lib

#: Name, type, and path of the endpoint.
SERVICES = (
    ('glance', 'image', ''),
    ('placement', 'placement', ''),
    ('neutron', 'network', ''),
    ('nova', 'compute', '/v2.1'),
    ('cinder', 'volumev3', '/v3'),
)


def connect(layout: layout_lib.Layout) -> openstack.connection.Connection:
    """Connect to the cloud as administrator."""
    return openstack.connect(
        **client_options(layout),
        compute_default_microversion='2.96',
        load_yaml_config=False,
        load_envvars=False,
    )


def client_options(
    layout: layout_lib.Layout, user: str = 'admin'
) -> dict[str, str]:
    """Return a login for the administrator's project, as client's options."""
    return {
        'auth_url': layout.url('keystone', '/v3'),
        'username': user,
        'password': layout_lib.SECRET,
        'project_name': 'admin',
        'user_domain_id': 'default',
        'project_domain_id': 'default',
        'region_name': layout_lib.REGION,
    }


def fill(layout: layout_lib.Layout, names: list[str]) -> None:
    """Make what keystone has to know of these services."""
    identity = connect(layout).identity
    project = identity.create_project(name='service', domain_id='default')
    roles = {role.name: role for role in identity.roles()}
    for name in ('admin', 'service'):
        if name not in roles:
            roles[name] = identity.create_role(name=name)
    for name, kind, path in SERVICES:
        if name not in names:
            continue
        user = identity.create_user(
            name=name, password=layout_lib.SECRET, domain_id='default'
        )
        for role in ('admin', 'service'):
            identity.assign_project_role_to_user(project, user, roles[role])
        service = identity.create_service(name=name, type=kind)
        for interface in ('public', 'internal', 'admin'):
            identity.create_endpoint(
                service_id=service.id,
                interface=interface,
                url=layout.url(name, path),
                region_id=layout_lib.REGION,
            )
