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

"""``nova-snap snapshot-create``."""

import argparse
import pathlib

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap.cmd import domain_snapshot_change
from nova_snap.cmd import domain_snapshots
from nova_snap.compute import domain_snapshots as domain_snapshots_lib
from nova_snap.image import api as image_api
from nova_snap.objects import domain_snapshot
from nova_snap.objects import instance as instance_lib
from nova_snap.virt import domain_snapshot as domain_snapshot_api


class CreateDomainSnapshot(domain_snapshot_change.ChangeDomainSnapshots):
    """Take a domain snapshot of a server, which stays with the server.

    libvirt keeps it, so virsh and virt-manager show it, too. If it fails or
    is interrupted, the server is as it was, and no file is left.
    """

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments that only this command has."""
        parser.add_argument(
            'name',
            metavar='NAME',
            nargs='?',
            help='Name of the domain snapshot. Default: the time, in seconds.',
        )
        parser.add_argument(
            '--description', metavar='TEXT', default='', help='Kept with it.'
        )
        _add_kinds(parser)
        parser.add_argument(
            '--disks',
            metavar='TARGET,...',
            type=_names,
            default=(),
            help='Of these disks only, such as "vda,vdb". Default: all disks '
            'that can be written.',
        )
        parser.add_argument(
            '--directory',
            metavar='DIR',
            type=_directory,
            help='Put new files there. Default: beside each disk.',
        )
        parser.add_argument(
            '--quiesce',
            action='store_true',
            help='Freeze the file systems by the guest agent; fail if that is '
            'not possible.',
        )
        parser.add_argument(
            '--halt',
            action='store_true',
            help='Stop the server at that moment.',
        )

    def request(
        self, parsed_args: argparse.Namespace
    ) -> domain_snapshot_api.Request:
        """Return what the user asks for."""
        return _request(parsed_args)

    def plan(
        self,
        snapshots: domain_snapshot_api.DomainSnapshots,
        request: domain_snapshot_api.Request,
    ) -> domain_snapshot_change.Plan:
        """Plan it; nothing is changed yet."""
        return snapshots.plan_creation(request)

    def change(
        self,
        manager: domain_snapshots_lib.DomainSnapshotManager,
        instance: instance_lib.Instance,
        request: domain_snapshot_api.Request,
        images: image_api.ImageService,
        progress: progress_lib.Progress,
    ) -> domain_snapshot_change.Shown:
        """Take it; return its columns and values."""
        found = manager.create(instance, request, images, progress)
        shown = domain_snapshots.fields(found)
        return tuple(shown), tuple(shown.values())


def _add_kinds(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument(
        '--disk',
        dest='kind',
        action='store_const',
        const=domain_snapshot.Kind.DISK,
        default=domain_snapshot.Kind.DISK,
        help='Keep the disks (the default); the server runs on.',
    )
    kinds.add_argument(
        '--system',
        dest='kind',
        action='store_const',
        const=domain_snapshot.Kind.SYSTEM,
        help='Keep the disks and the memory.',
    )
    kinds.add_argument(
        '--memory',
        dest='kind',
        action='store_const',
        const=domain_snapshot.Kind.MEMORY,
        help='Keep the memory alone, and stop the server (see --start).',
    )
    parser.add_argument(
        '--live',
        action='store_true',
        help='With --system: the server runs on while its memory is written.',
    )
    parser.add_argument(
        '--internal',
        action='store_true',
        help='With --system: inside the qcow2 files of the disks.',
    )
    parser.add_argument(
        '--start',
        action='store_true',
        help='With --memory: let the server run on. What it then writes to '
        'its disks does not fit the memory any more.',
    )


def _request(
    parsed_args: argparse.Namespace,
) -> domain_snapshot_api.Request:
    """Return the request.

    :raises Invalid: options do not go together.
    """
    kind, kinds = parsed_args.kind, domain_snapshot.Kind
    for name, is_wrong in (
        ('--live', parsed_args.live and kind is not kinds.SYSTEM),
        ('--internal', parsed_args.internal and kind is not kinds.SYSTEM),
        ('--start', parsed_args.start and kind is not kinds.MEMORY),
        ('--live', parsed_args.live and parsed_args.internal),
        ('--live', parsed_args.live and parsed_args.halt),
        ('--disks', parsed_args.disks and parsed_args.internal),
        ('--disks', parsed_args.disks and kind is kinds.MEMORY),
        ('--directory', parsed_args.directory and parsed_args.internal),
        ('--quiesce', parsed_args.quiesce and kind is not kinds.DISK),
        ('--halt', parsed_args.halt and parsed_args.start),
    ):
        if is_wrong:
            raise exception.Invalid(
                f'{name} does not go together with the other options; see '
                '"nova-snap help snapshot-create".'
            )
    return domain_snapshot_api.Request(
        kind=kind,
        name=parsed_args.name,
        description=parsed_args.description,
        devices=parsed_args.disks,
        is_live=parsed_args.live,
        is_internal=parsed_args.internal,
        quiesces=parsed_args.quiesce,
        halts=parsed_args.halt
        or (kind is kinds.MEMORY and not parsed_args.start),
        forces=parsed_args.force,
        directory=parsed_args.directory,
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, text.split(','))))


def _directory(text: str) -> pathlib.Path:
    return pathlib.Path(text).resolve()
