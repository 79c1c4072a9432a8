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

"""``nova-snap snapshot-list`` and ``snapshot-show``."""

import argparse
import datetime
from typing import Any

from cliff import columns as cliff_columns
from cliff import lister
from cliff import show

from nova_snap import conf
from nova_snap import exception
from nova_snap import factory
from nova_snap.cmd import columns
from nova_snap.cmd import epilog
from nova_snap.objects import domain_snapshot

#: Units of an age, with their seconds, the largest first.
_UNITS = (('d', 86400), ('h', 3600), ('min', 60), ('s', 1))


class _Name(cliff_columns.FormattableColumn[Any]):
    """A name, and the lines of the tree in front of it in a table."""

    def human_readable(self) -> str:
        """Return the name in its place in the tree."""
        lines, name = self._value
        return f'{lines}{columns.printable(name)}'

    def machine_readable(self) -> str:
        """Return the name alone."""
        return str(self._value[1])


class ListDomainSnapshots(epilog.NoEpilog, lister.Lister):
    """List the domain snapshots of a server.

    They stay with the server: libvirt keeps them ("virsh snapshot-list").
    What virsh or virt-manager has made is listed, too. The size is that of
    the memory and of what was written to the disks until the next one.

    "Needed By" is what reads the disks as they were then: the server itself,
    its later domain snapshots, other servers, and programs. What is listed
    there would be destroyed with the files. "Problems" are why the server
    could not go back.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('server', metavar='SERVER', help='Name or ID.')
        parser.add_argument(
            '--tree',
            action='store_true',
            help='Draw each below the one that it was taken after.',
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Return the columns and a row for each domain snapshot."""
        tree = _tree(parsed_args.server)
        for sentence in tree.unknown:
            self.app.stderr.write(f'{columns.printable(sentence)}\n')
        lines = _drawn(tree) if parsed_args.tree else {}
        return (
            'Name',
            'Kind',
            'State',
            'Parent',
            'Current',
            'Created At',
            'Age',
            'Size',
            'Needed By',
            'Problems',
        ), [
            (
                _Name((lines.get(found.name, ''), found.name)),
                found.kind_text,
                found.state,
                columns.Text(found.parent or ''),
                found.is_current,
                _time(found),
                _age(found),
                found.size,
                columns.Lines(tuple(map(str, found.dependents))),
                columns.Lines(found.problems),
            )
            for found in tree.snapshots
        ]


class ShowDomainSnapshot(epilog.NoEpilog, show.ShowOne):
    """Show a domain snapshot of a server, with its files."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('server', metavar='SERVER', help='Name or ID.')
        parser.add_argument(
            'name', metavar='NAME', help='Name of the domain snapshot.'
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        """Return the columns and values of the domain snapshot."""
        tree = _tree(parsed_args.server)
        found = tree.get(parsed_args.name)
        if found is None:
            raise exception.DomainSnapshotNotFound(
                server=parsed_args.server, name=parsed_args.name
            )
        shown = {**fields(found), 'unknown': columns.Lines(tree.unknown)}
        return tuple(shown), tuple(shown.values())


def _tree(server: str) -> domain_snapshot.Tree:
    driver = factory.libvirt_driver(conf.CONF)
    return driver.domain_snapshots(driver.instance(server)).tree()


def fields(found: domain_snapshot.DomainSnapshot) -> dict[str, Any]:
    """Return what is shown of a domain snapshot, by column."""
    return {
        'name': columns.Text(found.name),
        'description': columns.Text(found.description),
        'kind': found.kind_text,
        'state': found.state,
        'parent': columns.Text(found.parent or ''),
        'children': columns.Lines(found.children),
        'current': found.is_current,
        'created_at': _time(found),
        'size': found.size,
        'files': _Files(found.files),
        'needed_by': columns.Lines(tuple(map(str, found.dependents))),
        'problems': columns.Lines(found.problems),
    }


class _Files(cliff_columns.FormattableColumn[Any]):
    """Files; a line for each in a table, a list of mappings in JSON."""

    def human_readable(self) -> str:
        """Return a line for each file."""
        return '\n'.join(
            f'{f"{file.device} " if file.device else ""}{file.role}: '
            f'{columns.printable(file.path)} '
            f'({"missing" if file.size is None else file.size})'
            for file in self._value
        )

    def machine_readable(self) -> list[dict[str, Any]]:
        """Return the fields of each file; the size is in bytes."""
        return [
            {
                'role': str(file.role),
                'disk': file.device,
                'path': file.path,
                'size': file.size,
            }
            for file in self._value
        ]


def _time(found: domain_snapshot.DomainSnapshot) -> str:
    if found.created_at is None:
        return ''
    return found.created_at.strftime('%Y-%m-%dT%H:%M:%SZ')


def _age(found: domain_snapshot.DomainSnapshot) -> str:
    """Return the age in the largest unit that gives a whole number."""
    if found.created_at is None:
        return ''
    passed = datetime.datetime.now(datetime.UTC) - found.created_at
    seconds = max(0, int(passed.total_seconds()))
    for unit, length in _UNITS:
        if seconds >= length:
            return f'{seconds // length} {unit}'
    return '0 s'


def _drawn(tree: domain_snapshot.Tree) -> dict[str, str]:
    """Return the lines in front of each name, by the name."""
    lines: dict[str, str] = {}
    siblings: dict[str | None, list[str]] = {}
    names = {snapshot.name for snapshot in tree.snapshots}
    for found in tree.snapshots:
        parent = found.parent if found.parent in names else None
        siblings.setdefault(parent, []).append(found.name)
    below: dict[str | None, str] = {None: ''}
    for found in tree.snapshots:  # parents first
        parent = found.parent if found.parent in names else None
        is_last = siblings[parent][-1] == found.name
        lines[found.name] = f'{below[parent]}+- '
        below[found.name] = below[parent] + ('   ' if is_last else '|  ')
    return lines
