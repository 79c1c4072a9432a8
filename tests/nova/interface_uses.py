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

"""Names of Nova that a piece of source uses, read from its syntax tree.

Found are names imported from Nova, and attributes of objects of Nova where the
source says whose they are: of ``self`` in a class derived from one of Nova's,
of parameters in :data:`PARAMETERS` that are annotated with Any, and of
attributes that ``__init__`` sets to such a parameter.  An object of Nova that
comes from a call, or by another name, is not followed.
"""

import ast
from collections.abc import Iterator
import dataclasses

from nova_snap.nova import interface

#: The class of Nova that a parameter of this name has, if it is Any.
PARAMETERS = {
    'driver': interface.DRIVER,
    'image_api': interface.IMAGE_API,
    'instance': interface.INSTANCE,
    'nova_api': interface.IMAGE_API,
}

#: The classes that attributes of Nova's objects have.
VALUES = {
    str(name): name.value.replace(':', '.')
    for name in interface.NAMES
    if name.value
}


@dataclasses.dataclass(frozen=True)
class Use:
    """A name of Nova in a line, and the call of it if it is called."""

    path: str
    line: int
    call: ast.Call | None = dataclasses.field(default=None, compare=False)


def uses(source: str) -> list[Use]:
    """Return the names of Nova that a module uses."""
    reader = _Reader()
    reader.visit(ast.parse(source))
    return reader.uses


class _Reader(ast.NodeVisitor):
    def __init__(self) -> None:
        self.uses: list[Use] = []
        #: What names of the module and parameters mean in Nova.
        self._names: dict[str, str] = {}
        #: What attributes of self mean, and which are not Nova's.
        self._attributes: dict[str, str] = {}
        self._own: set[str] = set()
        self._base: str | None = None

    # What names mean

    def visit_Import(self, node: ast.Import) -> None:  # noqa: N802
        for alias in node.names:
            if _is_nova(alias.name):
                self._add(alias.name, node)
                self._names[alias.asname or 'nova'] = (
                    alias.name if alias.asname else 'nova'
                )

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:  # noqa: N802
        if _is_nova(node.module or ''):
            for alias in node.names:
                path = f'{node.module}.{alias.name}'
                self._add(path, node)
                self._names[alias.asname or alias.name] = path

    def visit_Assign(self, node: ast.Assign) -> None:  # noqa: N802
        self.generic_visit(node)
        (target,), path = node.targets, self._path(node.value)
        if isinstance(target, ast.Name) and path:
            self._names[target.id] = path

    def visit_ClassDef(self, node: ast.ClassDef) -> None:  # noqa: N802
        outside = self._attributes, self._own, self._base
        bases = [path for base in node.bases if (path := self._path(base))]
        self._base = bases[0] if bases else None
        self._own = set(_own_attributes(node))
        self._attributes = dict(_given_attributes(node))
        self.generic_visit(node)
        self._attributes, self._own, self._base = outside

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:  # noqa: N802
        outside = dict(self._names)
        for argument in node.args.args:
            self._names.pop(argument.arg, None)
        self._names.update(_given(node))
        self.generic_visit(node)
        self._names = outside

    # What is used

    def visit_Attribute(self, node: ast.Attribute) -> None:  # noqa: N802
        path = self._path(node)
        if path:
            self._add(path, node)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:  # noqa: N802
        path = self._path(node.func)
        if path:
            self._add(path, node, node)
        match node:
            case ast.Call(
                func=ast.Attribute(attr='import_module'),
                args=[ast.Constant(value=str(name))],
            ) if _is_nova(name):
                self._add(name, node)
        self.generic_visit(node)

    def _add(
        self,
        path: str,
        node: ast.expr | ast.stmt,
        call: ast.Call | None = None,
    ) -> None:
        self.uses.append(Use(path, node.lineno, call))

    def _path(self, node: ast.expr) -> str | None:
        """Return the dotted path in Nova that an expression refers to."""
        match node:
            case ast.Name(id=name):
                return self._names.get(name)
            case ast.Call(func=ast.Name(id='super')):
                return self._base
            case ast.Attribute(value=ast.Name(id='self'), attr=name):
                if name in self._attributes:
                    return self._attributes[name]
                if self._base and name not in self._own:
                    return f'{self._base}.{name}'
            case ast.Attribute(value=value, attr=name):
                path = self._path(value)
                if path and not _is_plain(path):
                    return f'{VALUES.get(path, path)}.{name}'
        return None


def _is_nova(module: str) -> bool:
    return module.partition('.')[0] == 'nova'


def _is_plain(path: str) -> bool:
    """Return True for a value, such as a string, that is no object of Nova."""
    listed = [str(name) for name in interface.NAMES]
    return (
        path in listed
        and path not in VALUES
        and not any(name.startswith(f'{path}.') for name in listed)
    )


def _given(function: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    """Yield the parameters that are objects of Nova, and their classes."""
    for argument in function.args.args:
        match argument:
            case ast.arg(arg=name, annotation=ast.Name(id='Any')) if (
                name in PARAMETERS
            ):
                yield name, PARAMETERS[name].replace(':', '.')


def _given_attributes(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Yield the attributes that ``__init__`` sets to objects of Nova."""
    for function in node.body:
        match function:
            case ast.FunctionDef(name='__init__'):
                given = dict(_given(function))
                for statement in function.body:
                    match statement:
                        case ast.Assign(
                            targets=[ast.Attribute(attr=attribute)],
                            value=ast.Name(id=name),
                        ) if name in given:
                            yield attribute, given[name]


def _own_attributes(node: ast.ClassDef) -> Iterator[str]:
    """Yield the methods of a class, and the attributes that it sets."""
    for child in ast.walk(node):
        match child:
            case ast.FunctionDef(name=name):
                yield name
            case ast.Attribute(
                value=ast.Name(id='self'), attr=name, ctx=ast.Store()
            ):
                yield name
