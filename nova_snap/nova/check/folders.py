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

"""Checks of the folders that nova-compute and QEMU write to.

Owners, permissions and free space are checked; no folder is made.
"""

from collections.abc import Iterator
import os
import pathlib
import pwd

import nova.conf
from oslo_utils import units

from nova_snap.nova import settings
from nova_snap.nova.check import findings
from nova_snap.virt import decision
from nova_snap.virt.libvirt import backup_job
from nova_snap.virt.libvirt import plan
from nova_snap.virt.storage import locality

CONF = nova.conf.CONF


def check_user() -> Iterator[findings.Finding]:
    """Check that this is run by the user of nova-compute.

    Another user would see other permissions.
    """
    path = pathlib.Path(CONF.instances_path)
    name = pwd.getpwuid(os.geteuid()).pw_name
    if not path.is_absolute() or not os.path.isdir(path):
        yield findings.failed('user', _missing(path))
        return
    owner = path.stat().st_uid
    if owner == os.geteuid():
        yield findings.ok('user', f'{name}, to whom {path} belongs.')
    else:
        yield findings.warning(
            'user',
            f'{name}, but {path} belongs to user {owner}: run this as the '
            'user of nova-compute to see its permissions.',
        )


def check_state() -> Iterator[findings.Finding]:
    """Check that the journal is writable, and is not lost with a package."""
    path = settings.state_path()
    if settings.is_in_environment(path):
        yield findings.failed(
            'state_path',
            f'{path} is among the packages of Python, and is lost when they '
            'are reinstalled, with the undo steps in its journal: set '
            '[DEFAULT] state_path, or [nova_snap] state_path.',
        )
        return
    folders = (path, path / 'journal', settings.locks_path())
    problems = [
        *(problem for folder in folders for problem in _problems(folder)),
        *_foreign_locks(),
    ]
    yield _judged('state_path', path, problems[:1])
    if not problems and not locality.is_local(str(_existing(path))):
        yield findings.warning(
            'state_path',
            f'other hosts may reach {path}, so the journal may be lost with '
            'the network: choose a folder on a disk of this host.',
        )


def check_folders() -> Iterator[findings.Finding]:
    """Check every folder for temporary files."""
    options = settings.driver_options()
    is_pulled = decision.Method.PULL in options.live_methods
    scratch = options.scratch_directory
    yield from _temporary(
        'snapshots_directory',
        options.snapshots_directory,
        options,
        is_pulled and scratch is None,
    )
    if scratch is not None:
        yield from _temporary('scratch_directory', scratch, options, is_pulled)


def _temporary(
    check: str,
    path: pathlib.Path,
    options: plan.Options,
    is_pulled: bool,
) -> Iterator[findings.Finding]:
    """Check a folder for temporary files.

    :param is_pulled: True if ``pull`` has its sockets and scratch files
        there.
    """
    problems = list(_problems(path))
    yield _judged(check, path, problems)
    if problems:
        return
    if is_pulled and not backup_job.is_short_enough(path):
        yield findings.warning(
            check,
            f'{path} is too long for the sockets of pull in it: choose a '
            '[nova_snap] scratch_directory with a shorter path.',
        )
    yield _passable(check, path)
    yield _space(check, path, options, is_pulled)
    if locality.is_in_memory(str(_existing(path))):
        yield findings.warning(
            check, f'{path} is in the memory of the host, which guests need.'
        )


def _existing(path: pathlib.Path) -> pathlib.Path:
    """Return the path, or the folder in which it would be made."""
    path = path.absolute()
    # Not by exists() of pathlib, which raises an error in a forbidden folder.
    while not os.path.lexists(path):
        path = path.parent
    return path


def _missing(path: pathlib.Path) -> str:
    existing = _existing(path)
    if _may(existing, os.X_OK):
        return f'[DEFAULT] instances_path {path} is no folder.'
    return (
        f'this user may not look into {existing}, where [DEFAULT] '
        f'instances_path {path} has to be.'
    )


def _judged(
    check: str, path: pathlib.Path, problems: list[str]
) -> findings.Finding:
    if problems:
        return findings.failed(check, ' '.join(problems))
    if os.path.isdir(path):
        return findings.ok(check, f'{path}.')
    return findings.ok(check, f'{path}, which will be made.')


def _problems(path: pathlib.Path) -> Iterator[str]:
    """Yield why this user could not write to a folder, or not make it."""
    if not path.is_absolute():
        yield (
            f'{path} is relative to wherever nova-compute was started: '
            'write the whole path.'
        )
        return
    existing = _existing(path)
    if not os.path.isdir(existing):
        yield f'{existing} is no folder.'
    elif not _may(existing, os.W_OK | os.X_OK):
        yield f'this user may not write to {existing}.'


def _foreign_locks() -> Iterator[str]:
    """Yield lock files of another user, on which snapshots would fail."""
    folder = settings.locks_path()
    if os.path.isdir(folder) and _may(folder, os.R_OK | os.X_OK):
        for file in sorted(folder.iterdir()):
            if not _may(file, os.W_OK):
                yield f'this user may not write to {file}.'


def _may(path: pathlib.Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=True)


def _passable(check: str, path: pathlib.Path) -> findings.Finding:
    """Check that QEMU, as a user of its own, can reach its files."""
    for folder in (_existing(path), *_existing(path).parents):
        if not folder.stat().st_mode & 0o001:
            return findings.warning(
                check,
                f'{folder} lets only its owner and group pass (o+x is '
                'missing); QEMU has to be one of them.',
            )
    return findings.ok(check, 'QEMU can reach it as any user.')


def _space(
    check: str,
    path: pathlib.Path,
    options: plan.Options,
    is_pulled: bool,
) -> findings.Finding:
    existing = _existing(path)
    stat = os.statvfs(existing)
    free = stat.f_bavail * stat.f_frsize
    text = f'{free // units.Mi} MiB are free in {existing}'
    needed, why = options.reserved_space, '[nova_snap] reserved_space_mb'
    if is_pulled:
        needed += options.scratch_minimum
        why += ' and scratch_min_mb'
    if free < needed:
        return findings.failed(check, f'{text}, less than {why}.')
    return findings.ok(check, f'{text}.')
