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

"""A process that ends the export of a process that was killed.

QEMU would go on with the backup job.  Its scratch file would grow with each
write of the guest until the file system is full, and QEMU pauses the guest.

The parent holds the other end of this program's standard input, and the kernel
closes that when the parent dies::

    python -m nova_snap.virt.libvirt.extraction.orphan_watch URI UUID STEP

STEP is the undo step of the export, as JSON.  A small program of Python's own
modules waits for that, and becomes this one when the parent has died: a
snapshot that succeeds imports nothing for it.
"""

from collections.abc import Iterator
import contextlib
import json
import subprocess  # nosec B404
import sys
import syslog
import time
from typing import TYPE_CHECKING

from nova_snap import exception

if TYPE_CHECKING:
    from nova_snap import journal
    from nova_snap.virt.libvirt import guest as guest_lib
    from nova_snap.virt.libvirt import undo_steps

#: Seconds for which libvirtd may be away, or unable to end the job; the folder
#: of the export is removed when somebody recovers.
PATIENCE = 24 * 3600
INTERVAL = 1

#: Seconds in which libvirtd begins the job that the parent asked for last:
#: it may have to wait for the end of another call (30 s, libvirt 9.0).
BEGIN_TIMEOUT = 40


#: Whoever stops the service or closes the terminal stops the parent.
_WAIT = """
import os, signal, sys
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
sys.stdin.buffer.read()
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@contextlib.contextmanager
def undoing(
    entry: 'journal.Entry',
    guest: 'guest_lib.Guest',
    step: 'undo_steps.EndExport',
) -> Iterator[None]:
    """Register a step for the block, as :meth:`.Entry.undoing` does.

    The export is also ended if this process is killed in the block, or could
    not end it because libvirtd is away.  If the process that does so can't be
    started, that is logged, and only recovery ends the export then.
    """
    process = _started(guest, step)
    try:
        with entry.undoing(step):
            yield
    finally:
        if process is not None:
            _let_go(process, is_needed=step in entry.steps)


def _let_go(process: subprocess.Popen[bytes], is_needed: bool) -> None:
    """End the process, or let it end the export."""
    if not is_needed:
        process.kill()
    if process.stdin is not None:
        process.stdin.close()
    if not is_needed:
        process.wait()


def _started(
    guest: 'guest_lib.Guest', step: 'undo_steps.EndExport'
) -> subprocess.Popen[bytes] | None:
    # Neither the environment's packages nor the current folder (-P).
    argv = [sys.executable, '-I', '-S', '-c', _WAIT]
    argv += ['-P', '-m', __name__]
    argv += [guest.host.uri, guest.uuid, json.dumps(step.data())]
    try:
        return subprocess.Popen(  # nosec B603
            argv,
            stdin=subprocess.PIPE,
            # Whoever reads our output to its end does not wait for this one.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        from oslo_log import log as logging

        logging.getLogger(__name__).warning(
            'If this process is killed, the export of the disk of server '
            '%(server)s goes on until "nova-snap recover" is run: '
            '%(program)s could not be started: %(error)s',
            {'server': guest.uuid, 'program': argv[0], 'error': error},
            instance_uuid=guest.uuid,
        )
        return None


def main(uri: str, uuid: str, step: str) -> None:
    """End the export of the parent, which has died."""
    syslog.openlog('nova-snap', syslog.LOG_PID, syslog.LOG_DAEMON)
    try:
        _end(uri, uuid, json.loads(step))
    except Exception as error:
        syslog.syslog(
            syslog.LOG_ERR,
            f'The export of the disk of server {uuid} could not be ended: '
            f'{error!r}. Run "nova-snap recover".',
        )
        raise


def _end(uri: str, uuid: str, data: dict[str, object]) -> None:
    from nova_snap import undo
    from nova_snap import waiting
    from nova_snap.virt.libvirt import guest as guest_lib
    from nova_snap.virt.libvirt import host as host_lib
    from nova_snap.virt.libvirt import undo_steps

    step = undo_steps.EndExport.from_data(data)
    guest = guest_lib.Guest(host_lib.Host(uri), uuid, uuid)
    folders = undo_steps.Folders((step.path.parent,))
    absent_since = None
    has_begun = False
    for _poll in waiting.polls(PATIENCE, interval=INTERVAL):
        if not step.path.exists():
            return  # recovered
        try:
            has_begun = has_begun or step.has_begun(guest)
            if has_begun:
                # Again after an error: the guest may have to be resumed, too.
                step.undo(undo.Resources(guest, folders))
                break
        except exception.NovaSnapError:
            continue
        absent_since = absent_since or time.monotonic()
        if time.monotonic() - absent_since > BEGIN_TIMEOUT:
            return
    syslog.syslog(
        syslog.LOG_WARNING,
        f'The export of the disk of server {uuid} has been ended, since its '
        'snapshot was killed. Recovery does the rest.',
    )


if __name__ == '__main__':
    main(*sys.argv[1:])
