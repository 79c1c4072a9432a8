#!/bin/bash
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

# Sets everything up and passes all the tests:
#
#   tools/test.sh [--quick] [--exhaustive] [ENVIRONMENT...] [-- REGEX...]
#
# `tools/test.sh --help` says what they mean.  Works as root, or with sudo:
# the functional and the openstack tests start a libvirtd of their own, which
# needs root.  --quick needs neither; a package that is missing is named.

set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top"

if [ "$(id -u)" != 0 ] && [[ " $* " != *' --quick '* ]]; then
    exec sudo --preserve-env=PATH "$0" "$@"
fi
if [ -e .lab ] && [ ! -w .lab ]; then
    printf '%s\n' "test: $top/.lab belongs to somebody else (root, after a" \
        'full run): run --quick with sudo, or in a clone of your own' >&2
    exit 1
fi

if [[ " $* " = *' --quick '* ]]; then
    tools/setup.sh --quick
else
    tools/setup.sh --tests demo stream
fi

# tox takes the Python of this environment, the distribution's: libnbd's
# binding exists for that one only.
PATH=$top/.venv/bin:$PATH
exec python -m tools.run_tests "$@"
