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

"""The settings of Sphinx; see ``tox -e docs``."""

import pathlib
import sys

import pbr.version

sys.path.insert(0, str(pathlib.Path(__file__).parent / '_ext'))

project = 'nova_snap'
project_copyright = 'nova_snap developers'
version = pbr.version.VersionInfo('nova-snap').version_string()
release = version

extensions = [
    'api_table',
    'cliff.sphinxext',
    'oslo_config.sphinxext',
    'oslo_policy.sphinxext',
    'reno.sphinxext',
]

root_doc = 'index'
nitpicky = True
# Two dashes are an option of a command, not a typographer's dash.
smartquotes = False
# A block without a language is a tree of files, or output: no Python.
highlight_language = 'none'

html_theme = 'furo'
html_title = f'{project} {release}'

man_pages = [
    (
        'cli/nova-snap',
        'nova-snap',
        'images of running and stopped libvirt guests',
        ['nova_snap developers'],
        1,
    ),
]

# Of nova-snap's commands, what the program itself offers everywhere.
autoprogram_cliff_application = 'nova-snap'
autoprogram_cliff_app_dist_name = 'nova-snap'
autoprogram_cliff_ignored = [
    '--help',
    '--format',
    '--column',
    '--max-width',
    '--fit-width',
    '--print-empty',
    '--prefix',
    '--noindent',
    '--quote',
    '--sort-column',
    '--sort-ascending',
    '--sort-descending',
]
