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

"""The list of Nova's names, against a real Nova and against our own code."""

import ast
from collections.abc import Iterator
import dataclasses
import inspect
import pathlib

from nova.virt.libvirt import driver as nova_driver
from oslo_config import cfg

from nova_snap.conf import nova as conf
from nova_snap.nova import interface
from tests.nova import base
from tests.nova import interface_uses
from tests.unit import base as unit_base

PACKAGE = unit_base.REPOSITORY / 'nova_snap'

#: Reads options of Nova that are the same in nova_snap.conf.
FACTORY = PACKAGE / 'factory.py'

LISTED = {str(name): name for name in interface.NAMES}

#: The start of a name that is an option, or a method of oslo.config.
CONF = 'nova.conf.CONF.'

SAMPLE = """\
from typing import Any
import nova.conf
from nova.virt.libvirt import driver
CONF = nova.conf.CONF
class Ours(driver.LibvirtDriver):
    def snapshot(self, instance: Any) -> None:
        super().snapshot(1, 2, 3, 4, 5)
        self._gone(instance.flavor.gone, instance.uuid.upper())
        self._host.gone()
class Other:
    def __init__(self, driver: Any) -> None:
        self._theirs = driver
    def use(self, instance: str) -> None:
        self._theirs._host.get_guest(instance.unknown, wait=True)
        CONF.libvirt.gone
"""


def sources() -> Iterator[pathlib.Path]:
    """Our modules that are about Nova."""
    for path in sorted((PACKAGE / 'nova').rglob('*.py')):
        if path.name != 'interface.py':
            yield path


def is_listed(use: interface_uses.Use) -> bool:
    """Return True if a name is listed, or leads to one that is."""
    if use.path.endswith('__file__'):
        return True  # Python's
    if use.path.startswith(CONF):
        option = use.path.removeprefix(CONF).partition('.')[0]
        if option in (conf.GROUP, 'config_file') or hasattr(
            cfg.ConfigOpts, option
        ):
            return True
    return any(f'{name}.'.startswith(f'{use.path}.') for name in LISTED)


def is_called_so(use: interface_uses.Use) -> bool:
    """Return True if a name is called with the parameters of the list."""
    name = LISTED.get(use.path)
    if use.call is None or name is None:
        return True
    keywords = {keyword.arg for keyword in use.call.keywords}
    return (
        name.parameters is not None
        and len(use.call.args) <= len(name.parameters)
        and keywords <= set(name.keywords)
    )


class RealNovaTest(base.NovaTestCase):
    """The Nova of this environment has everything on the list."""

    def test_nothing_is_missing(self) -> None:
        self.assertEqual([], interface.missing())
        self.assertEqual([], interface.changed())

    def test_parameters_have_their_names(self) -> None:
        for name in interface.NAMES:
            if name.parameters is not None:
                found = [
                    parameter.name
                    for parameter in name.signature().parameters.values()
                    if parameter.kind is not parameter.VAR_KEYWORD
                ]
                count = len(name.parameters)
                self.assertEqual([*name.parameters], found[:count], name)

    def test_other_nova(self) -> None:
        self.patch(
            nova_driver.LibvirtDriver, '_can_quiesce', lambda self: None
        )
        gone = dataclasses.replace(
            LISTED[f'{interface.DRIVER.replace(":", ".")}._host'],
            name='_server',
        )
        self.patch(
            interface,
            'NAMES',
            (
                gone,
                dataclasses.replace(gone, where='nova.nothing:Driver'),
                dataclasses.replace(
                    gone, where='nova.conf:CONF.libvirt', name='gone'
                ),
                *interface.NAMES,
            ),
        )
        self.assertEqual(
            [
                'nova.virt.libvirt.driver.LibvirtDriver._server',
                'nova.nothing.Driver._server',
                'nova.conf.CONF.libvirt.gone',
            ],
            interface.missing(),
        )
        self.assertEqual(
            ['nova.virt.libvirt.driver.LibvirtDriver._can_quiesce'],
            interface.changed(),
        )

    def test_name_of_an_earlier_release(self) -> None:
        name = interface.Name(
            'nova.context', 'gone', (), formerly='get_admin_context'
        )
        self.assertTrue(name.is_there())
        self.assertTrue(name.takes_parameters())
        self.assertIsInstance(name.signature(), inspect.Signature)


class OwnCodeTest(unit_base.TestCase):
    """Our code and the list agree."""

    def test_every_name_is_listed(self) -> None:
        self.assertEqual(
            [],
            [
                f'{path}:{use.line}: {use.path}'
                for path in sources()
                for use in interface_uses.uses(path.read_text())
                if not is_listed(use) or not is_called_so(use)
            ],
        )

    def test_every_listed_name_is_used(self) -> None:
        words = {
            word
            for path in (*sources(), FACTORY)
            for node in ast.walk(ast.parse(path.read_text()))
            for word in _words(node)
        }
        self.assertEqual(
            [],
            [str(name) for name in interface.NAMES if name.name not in words],
        )

    def test_what_is_found(self) -> None:
        found = interface_uses.uses(SAMPLE)
        self.assertEqual(
            {
                (8, 'nova.virt.libvirt.driver.LibvirtDriver._gone'),
                (8, 'nova.objects.Flavor.gone'),
                (9, 'nova.virt.libvirt.host.Host.gone'),
                (15, 'nova.conf.CONF.libvirt.gone'),
            },
            {(use.line, use.path) for use in found if not is_listed(use)},
        )
        self.assertEqual(
            {
                (7, 'nova.virt.libvirt.driver.LibvirtDriver.snapshot'),
                (14, 'nova.virt.libvirt.host.Host.get_guest'),
            },
            {(use.line, use.path) for use in found if not is_called_so(use)},
        )


def _words(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Attribute(attr=name) | ast.FunctionDef(name=name):
            yield name
        case ast.alias(name=name):
            yield from name.split('.')
        case ast.Constant(value=str(text)):
            yield from text.split('.')
