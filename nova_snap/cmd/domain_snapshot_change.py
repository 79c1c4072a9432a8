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

"""What the commands that change domain snapshots have in common."""

import abc
import argparse
from typing import Any
from typing import Protocol

from cliff import show

from nova_snap import conf
from nova_snap import factory
from nova_snap import progress as progress_lib
from nova_snap.cmd import columns
from nova_snap.cmd import epilog
from nova_snap.cmd import interrupts
from nova_snap.cmd import progress as progress_view
from nova_snap.compute import domain_snapshots as domain_snapshots_lib
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.virt import domain_snapshot as domain_snapshot_api

#: Names of columns, and their values.
Shown = tuple[tuple[str, ...], tuple[Any, ...]]


class Plan(Protocol):
    """The plan of a change."""

    def described(self) -> dict[str, str]:
        """Return what would be done, for people, by what it is about."""


class ChangeDomainSnapshots(epilog.NoEpilog, show.ShowOne):
    """A command that plans a change, and makes it or prints the plan."""

    #: What else ``--force`` is for.
    also_forced = ''

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('server', metavar='SERVER', help='Name or ID.')
        self.add_arguments(parser)
        parser.add_argument(
            '--force',
            action='store_true',
            help='Also of a server that Nova manages: its next hard reboot '
            f'starts it from the old files.{self.also_forced}',
        )
        parser.add_argument(
            '--print',
            action='store_true',
            dest='only_print',
            help='Print what would be done, and do nothing.',
        )
        parser.add_argument(
            '--poll',
            action='store_true',
            help='Show progress: a bar on a terminal, else lines.',
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Shown:
        """Make the change, or print its plan."""
        request = self.request(parsed_args)
        driver = factory.libvirt_driver(conf.CONF)
        instance = driver.instance(parsed_args.server)
        if parsed_args.only_print:
            plan = self.plan(driver.domain_snapshots(instance), request)
            described = plan.described()
            return tuple(described), tuple(
                columns.TextLines(text) for text in described.values()
            )
        manager = domain_snapshots_lib.DomainSnapshotManager(
            driver, factory.snapshot_manager(conf.CONF, driver)
        )
        with (
            progress_view.listener(parsed_args.poll) as listener,
            interrupts.cancelling(
                progress_lib.Progress(instance.uuid, listener)
            ) as progress,
        ):
            images = image_api.from_conf(conf.CONF)
            return self.change(manager, instance, request, images, progress)

    @abc.abstractmethod
    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments that only this command has."""

    @abc.abstractmethod
    def request(self, parsed_args: argparse.Namespace) -> Any:
        """Return what the user asks for.

        :raises Invalid: options do not go together.
        """

    @abc.abstractmethod
    def plan(
        self, snapshots: domain_snapshot_api.DomainSnapshots, request: Any
    ) -> Plan:
        """Plan the change; nothing is changed yet."""

    @abc.abstractmethod
    def change(
        self,
        manager: domain_snapshots_lib.DomainSnapshotManager,
        instance: instance_lib.Instance,
        request: Any,
        images: image_api.ImageService,
        progress: progress_lib.Progress,
    ) -> Shown:
        """Make the change; return what is shown of it."""
