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

# Shows what nova_snap does, on a real guest:
#
#   tools/demo.sh           set up what is missing, and show it
#   tools/demo.sh --api     the same of nova-snap-api, by OpenStack's own client
#   tools/demo.sh --down    remove all that it started and made
#
# Everything listens on loopback and lies in /var/tmp/nova-snap-lab (or
# $NOVA_SNAP_LAB) and in .venv; a libvirt that the host runs is not touched.

set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top"

if [ "$(id -u)" != 0 ]; then
    exec sudo --preserve-env=PATH,NOVA_SNAP_LAB "$0" "$@"
fi

case ${1:-} in
    '')
        tools/setup.sh demo stream
        exec .venv/bin/python -m tests.lab.demo
        ;;
    --api)
        tools/setup.sh --client api stream
        exec .venv/bin/python -m tests.lab.demo_api
        ;;
    --down) exec .venv/bin/python -m tests.lab.demo --down ;;
    *)
        printf 'usage: tools/demo.sh [--api | --down]\n' >&2
        exit 2
        ;;
esac
