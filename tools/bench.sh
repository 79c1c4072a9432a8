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


# Measures this project's live snapshots beside Nova's own driver code and
# virtnbdbackup:
#
#   tools/bench.sh [--json FILE] [--rounds N] [--methods M...] [--disks D...]
#                  [--glance default tuned] [--small] [--busy] [--profile]
#                  [--nova | --rbd | --growth [--plot FILE]]
#   tools/bench.sh --domain-snapshots [--json FILE] [--rounds N] [--kinds K...]
#                  [--memory MIB USED] [--since MIB] [--small]
#
# sets up what is missing, Nova in .lab/nova and this project in .venv, starts
# a libvirtd, a Glance and a guest of its own in /var/tmp/nslab-bench (or
# $NOVA_SNAP_LAB), takes the snapshots in turn, and prints a table.  It removes
# its guests and images at the end.  "tools/bench.sh --help" says more.
#
# --glance default tuned measures with Glance's own options and with two others
# by which it takes data faster, in one table: see doc/source/admin/performance.
#
# --busy has guests that use their processor all the time.  --profile samples
# each program by perf, and prints where its processor time goes.
#
# --nova measures within a whole Nova instead: it starts the cloud of
# tests/openstack (tools/setup.sh --openstack, which it runs, installs it in
# .lab/openstack) with a server whose disk has 1 GiB in use, and takes the
# snapshots of it by nova-compute, which it restarts with Nova's own driver and
# with this project's in turn.  Times are those in nova-compute's log.
#
# --rbd measures a disk in Ceph: it starts Ceph and two Glances in a network
# namespace of their own (tools/setup.sh --volumes installs Ceph), and counts
# the bytes that pass between them and this host.
#
# --domain-snapshots measures the commands of domain snapshots instead, beside
# virsh, and an image snapshot of a guest of the same kind: see
# doc/source/admin/domain-snapshots.

set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top"

if [ "$(id -u)" != 0 ]; then
    exec sudo --preserve-env=PATH,NOVA_SNAP_LAB "$0" "$@"
fi

nova_release=34.0.0
nova=$top/.lab/nova
log=$top/.lab/setup-nova.log

# Nova has requirements of its own, so it gets an environment of its own.
install_nova() {
    local marker=$nova/installed-$nova_release
    [ -e "$marker" ] && return
    printf 'bench: installing nova %s (%s)\n' "$nova_release" "$log"
    rm -rf "$nova"
    if ! {
        /usr/bin/python3 -m venv "$nova" &&
            .venv/bin/uv pip install -p "$nova/bin/python" \
                "nova==$nova_release" libvirt-python
    } >"$log" 2>&1; then
        tail -n 30 "$log" >&2
        return 1
    fi
    touch "$marker"
}

# Ceph's bindings are those of the distribution, as its Python is.
link_ceph() {
    ln -sf /usr/lib/python3/dist-packages/{rados,rbd}.*.so \
        "$nova"/lib/python3.*/site-packages/
}

# By which it talks to the cloud; no part of the project.
install_sdk() {
    .venv/bin/python -c 'import openstack.connection' 2>/dev/null ||
        .venv/bin/uv pip install -q -p .venv/bin/python 'openstacksdk>=4.0'
}

case " $* " in
    *' --help '* | *' -h '*) ;;
    *)
        case " $* " in
            *' --nova '*)
                tools/setup.sh --openstack demo stream
                install_sdk
                ;;
            *' --rbd '*)
                tools/setup.sh --volumes demo stream
                install_nova
                link_ceph
                command -v ip >/dev/null ||
                    apt-get install -qq -y --no-install-recommends iproute2
                ;;
            *' --domain-snapshots '*)
                tools/setup.sh demo stream
                ;;
            *)
                tools/setup.sh demo stream
                install_nova
                command -v virtnbdbackup >/dev/null ||
                    apt-get install -qq -y --no-install-recommends \
                        virtnbdbackup
                ;;
        esac
        case " $* " in
            *' --profile '*)
                command -v perf >/dev/null ||
                    apt-get install -qq -y --no-install-recommends linux-perf
                ;;
        esac
        # Draws the plot, and is no part of the project.
        case " $* " in
            *' --growth '*)
                .venv/bin/python -c 'import matplotlib' 2>/dev/null ||
                    .venv/bin/uv pip install -q -p .venv/bin/python matplotlib
                ;;
        esac
        ;;
esac
export NOVA_SNAP_LAB=${NOVA_SNAP_LAB:-/var/tmp/nslab-bench}
exec .venv/bin/python -m tools.bench "$@"
