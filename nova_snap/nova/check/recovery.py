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

"""Checks of the journal, and of the login by which recovery deletes images."""

from collections.abc import Iterator

import nova.conf

from nova_snap import exception
from nova_snap.clients import keystone
from nova_snap.nova import images
from nova_snap.nova import settings
from nova_snap.nova.check import findings

CONF = nova.conf.CONF


def check_recovery() -> Iterator[findings.Finding]:
    """Check that nothing is left to undo, and that recovery has a login."""
    yield from _journal()
    yield _login()


def _journal() -> Iterator[findings.Finding]:
    contents = settings.make_journal().contents()
    for file in contents.unreadable:
        yield findings.failed(
            'journal',
            f'{file} Do not remove it: it may have the only definition of a '
            'server.',
        )
    for entry in contents.entries:
        yield findings.warning(
            'journal',
            f'{entry.path} has undo steps left: {", ".join(entry.kinds)}; '
            'nova-compute does them while it runs.',
        )
    if contents.is_empty:
        yield findings.ok('journal', 'nothing is left to undo.')


def _login() -> findings.Finding:
    """Check that the options make a login, without asking Keystone."""
    try:
        group = images.login_group()
    except exception.InvalidConfiguration:
        return _no_login('neither [service_user] nor [glance] has one')
    try:
        with keystone.configured(group):
            keystone.load_auth(CONF, group)
    except exception.InvalidConfiguration as error:
        return _no_login(f'that of [{group}] cannot be used ({error})')
    return findings.ok('login', f'[{group}], for recovery.')


def _no_login(reason: str) -> findings.Finding:
    return findings.warning(
        'login',
        f'{reason}: image records of a nova-compute that was killed have to '
        'be deleted by hand.',
    )
