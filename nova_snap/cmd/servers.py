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

"""``nova-snap list`` and ``nova-snap explain``."""

import argparse
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from cliff import lister

from nova_snap import conf
from nova_snap import factory
from nova_snap.cmd import columns
from nova_snap.cmd import epilog
from nova_snap.cmd import server_argument
from nova_snap.compute.volume_backed import plan as volume_backed
from nova_snap.compute.volume_backed import record as volume_record
from nova_snap.virt import decision as decision_lib

#: The one method by which an image of volumes is made.
CINDER = 'cinder'

#: The decision if nothing is read.
_VOLUMES_ONLY = (
    'decision',
    str(decision_lib.Path.LIVE),
    CINDER,
    'The guest is left as it is; the image has no data and names a snapshot '
    'of each volume.',
)


class ListServers(epilog.NoEpilog, lister.Lister):
    """List the servers of this host."""

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], Iterator[tuple[Any, ...]]]:
        """Return the columns and a row for each server."""
        instances = factory.libvirt_driver(conf.CONF).instances()
        return ('ID', 'Name', 'Power State'), (
            (instance.uuid, columns.Text(instance.name), state.name.lower())
            for instance, state in sorted(
                instances, key=lambda found: found[0].name
            )
        )


class Explain(epilog.NoEpilog, lister.Lister):
    """Show how a snapshot of a server would be taken, and why.

    The server is not changed. Each row is a fact, with the live methods that
    it allows; the last row is the decision. A snapshot is live by the first
    method of [snapshot] live_method that every fact allows, else cold. With
    [snapshot] rbd_pool, rbd_direct comes first for a root disk on RBD, also
    of a server that does not run. A volume that Cinder takes a snapshot of is
    a row of its own.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        server_argument.add_several(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return the columns, a row for each fact, and the decision."""
        driver = factory.libvirt_driver(conf.CONF)
        instance = server_argument.instance(driver, parsed_args)
        found = volume_backed.Survey()
        if volume_backed.wanted(driver.block_devices(instance), instance):
            volumes = factory.volume_service(conf.CONF)
            found = volume_backed.survey(driver, volumes, instance)
        rows = _volume_rows(found.attached)
        if found.boots_from_volume and not found.reads_disks:
            rows.append(_VOLUMES_ONLY)
        else:
            rows += _rows(driver.explain(instance))
        return ('Fact', 'Value', 'Live Methods', 'Meaning'), rows


def _rows(decision: decision_lib.Decision) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        (
            reason.fact,
            reason.value,
            ' '.join(sorted(reason.allows)) or 'none',
            reason.meaning,
        )
        for reason in decision.reasons
    ]
    method = str(decision.method or 'none')
    return [*rows, ('decision', str(decision.path), method, decision.summary)]


def _volume_rows(
    attached: Sequence[volume_record.AttachedVolume],
) -> list[tuple[str, ...]]:
    return [
        (
            f'volume {found.device.name}',
            found.volume.id,
            CINDER,
            f'Cinder takes a snapshot of it ({found.volume.size} GiB, '
            f'{found.volume.status}).',
        )
        for found in attached
    ]
