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

"""The directive ``api-table``: the calls of the OpenAPI description.

The extensions of Sphinx that show whole descriptions either load a program of
JavaScript or are not kept any more; a table says where to look.
"""

import pathlib
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
import yaml

METHODS = ('get', 'post', 'delete')


class ApiTable(Directive):
    """A table of the operations in a file beside the page."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return a table for each tag, under its name."""
        environment = self.state.document.settings.env
        folder = pathlib.Path(environment.doc2path(environment.docname)).parent
        path = folder / self.arguments[0]
        environment.note_dependency(str(path))
        document = yaml.safe_load(path.read_text())
        return [
            node
            for tag in document['tags']
            for node in (
                nodes.rubric('', f'{tag["name"]}: {tag["description"]}'),
                _table(list(_rows(document, tag['name']))),
            )
        ]


def _rows(document: dict[str, Any], tag: str) -> Any:
    for path, item in document['paths'].items():
        for method in METHODS:
            operation = item.get(method)
            if operation is not None and tag in operation['tags']:
                answers = ', '.join(operation['responses'])
                call = f'{method.upper()} {path}'
                yield call, operation['summary'], answers


def _table(rows: list[tuple[str, str, str]]) -> nodes.table:
    group = nodes.tgroup(cols=3)
    group += [nodes.colspec(colwidth=width) for width in (50, 35, 15)]
    head, body = nodes.thead(), nodes.tbody()
    head += _row(*(nodes.Text(t) for t in ('Call', 'What', 'Answers')))
    for call, summary, answers in rows:
        body += _row(
            nodes.literal('', call), nodes.Text(summary), nodes.Text(answers)
        )
    group += [head, body]
    return nodes.table('', group)


def _row(*cells: nodes.Node) -> nodes.row:
    return nodes.row(
        '', *(nodes.entry('', nodes.paragraph('', '', cell)) for cell in cells)
    )


def setup(app: Any) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive('api-table', ApiTable)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
