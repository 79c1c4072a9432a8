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

# Makes this checkout ready to run on a host with Debian 12 or 13:
#
#   tools/setup.sh [--tests] [--client | --clients] [--volumes] [--openstack]
#                  [EXTRA...]
#   tools/setup.sh --quick
#
# installs the system packages that are missing (apt), makes the virtual
# environment .venv and installs the project into it, editable, with the named
# extras ("demo").  --tests adds what the tests need, --clients the clients of
# OpenStack (--client: only the newest openstackclient), --volumes Ceph and
# Cinder, --openstack the servers of a whole cloud; clients and servers are in
# environments of their own (.lab/clients, .lab/cinder, .lab/openstack).  A
# second run does only what is missing.  Nothing is started, and a libvirt that
# the host runs is left alone.
#
# --quick is for a person without root who runs unit tests and checks: fewer
# packages, of which a missing one is named and not installed, and no project
# in .venv, but tox, which installs it into the environments that it makes.

set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$top/.venv
log=$top/.lab/setup.log

# What unit tests, checks and documentation need.  libvirt-dev to python3-dev
# build libvirt-python; util-linux has setpriv and unshare.
quick_packages="
    libvirt-dev gcc libc6-dev pkg-config python3-dev python3-venv
    qemu-utils mount util-linux git ca-certificates"

# What a host needs besides that runs the guests of tests and demo.
# busybox-static to qemu-guest-agent go into the guests; python3-libnbd is used
# by the distribution's own Python only, and so .venv is made from that.  Not
# libvirt-daemon-system: it would make libvirtd a service of the host.
packages="$quick_packages
    qemu-system-x86
    libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients
    busybox-static cpio kmod qemu-guest-agent
    e2fsprogs fdisk python3-libnbd"

# Packages of their own since Debian 13.
if [ "$(. /etc/os-release && echo "${VERSION_ID:-}")" != 12 ]; then
    packages+=" libvirt-daemon-driver-secret libvirt-daemon-driver-network"
    packages+=" libvirt-daemon-driver-storage"
fi

# A server for the tests of the qcow2 writer's NBD source, and what guests with
# UEFI firmware and an emulated TPM are made of.
test_packages="
    nbdkit
    ovmf swtpm swtpm-tools"

# What OpenStack's servers stand on.  genisoimage makes config drives.
openstack_packages="
    rabbitmq-server mariadb-server-core mariadb-client-core memcached
    genisoimage"

openstack=$top/.lab/openstack
openstack_files=$top/tests/openstack

# One Ceph of its own, and what lets QEMU, Cinder and Glance read from it, and
# the project make images inside it.
volume_packages="
    ceph-mon ceph-osd ceph-mgr ceph-common
    qemu-block-extra python3-rados python3-rbd"

volumes=$top/.lab/cinder
volumes_file=$top/tests/lab/volume-servers.txt

# Clients that are tested; each has requirements that the others have not.  Of
# openstackclient the oldest and the newest; the last novaclient that has the
# command "nova"; tempest for its clients, which check what they are answered.
clients=$top/.lab/clients
newest_client=10.5.0
client_versions="7.4.0 $newest_client"
novaclient=18.13.1
tempest=47.0.0

say() { printf 'setup: %s\n' "$*"; }

# Run a command with its output in the log; show the log's end if it fails.
logged() {
    printf '+ %s\n' "$*" >>"$log"
    if ! "$@" >>"$log" 2>&1 </dev/null; then
        printf 'setup: failed: %s\n' "$*" >&2
        tail -n 30 "$log" >&2
        printf 'setup: all of it is in %s\n' "$log" >&2
        return 1
    fi
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

missing_packages() {
    local package
    for package in $packages; do
        dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null |
            grep -q '^.i' || echo "$package"
    done
}

install_packages() {
    local missing
    missing=$(missing_packages | tr '\n' ' ')
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null || {
        say "this is no Debian; install what these are called here: $missing"
        return 1
    } >&2
    if [ "$(id -u)" != 0 ]; then
        [ "$quick" = 0 ] && command -v sudo >/dev/null || {
            say 'packages are missing; as root, run'
            say "  apt-get install --no-install-recommends $missing"
            return 1
        } >&2
    fi
    say "installing with apt: $missing"
    logged as_root apt-get update
    # RUNLEVEL=1: the scripts of a package that has a service don't start it.
    logged as_root env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends $missing
}

make_venv() {
    if ! "$venv/bin/python" -c '' 2>/dev/null; then
        say "making the virtual environment $venv"
        rm -rf "$venv"
        logged /usr/bin/python3 -m venv "$venv"
    fi
    [ -x "$venv/bin/uv" ] || logged "$venv/bin/pip" install uv
    link_libnbd
}

# libnbd's binding comes from the distribution only; nothing else of the
# system's Python shall be seen in the virtual environment.
link_libnbd() {
    local target file
    target=$("$venv/bin/python" -c \
        'import sysconfig; print(sysconfig.get_path("platlib"))')
    for file in /usr/lib/python3/dist-packages/{nbd.py,libnbdmod*.so}; do
        [ ! -e "$file" ] || ln -sf "$file" "$target/"
    done
}

install_python() {
    local extras=$1 quick=$2 tests=$3 wanted=()
    [ "$quick" = 1 ] || wanted+=("--editable" "$top${extras:+[$extras]}")
    [ "$tests" = 0 ] ||
        wanted+=("-r" "$top/test-requirements.txt" "tox" "tox-uv")
    say "installing into $venv"
    logged "$venv/bin/uv" pip install -p "$venv/bin/python" "${wanted[@]}"
}

# The servers have requirements that are none of the project's.  The project
# goes into their environment as an operator would install it; the tests do
# that again, for what has changed since.
install_openstack() {
    local files=("$openstack_files"/{requirements,constraints}.txt)
    local wanted
    wanted=$(cat "${files[@]}" | sha256sum)
    [ "$(cat "$openstack/installed" 2>/dev/null)" != "$wanted" ] || return 0
    say "installing OpenStack's servers into $openstack"
    rm -rf "$openstack"
    logged /usr/bin/python3 -m venv "$openstack"
    logged "$venv/bin/uv" pip install -p "$openstack/bin/python" \
        -c "${files[1]}" -r "${files[0]}"
    logged "$venv/bin/uv" pip install -p "$openstack/bin/python" \
        -c "${files[1]}" "$top[stream]"
    printf '%s\n' "$wanted" >"$openstack/installed"
}

# Nova and Glance find Ceph's bindings in their own environment only.
link_ceph() {
    local target file
    target=$("$1/bin/python" -c \
        'import sysconfig; print(sysconfig.get_path("platlib"))')
    for file in /usr/lib/python3/dist-packages/{rados,rbd}.*.so; do
        [ ! -e "$file" ] || ln -sf "$file" "$target/"
    done
}

# Ceph's bindings come from the distribution only, as libnbd's does.  The
# project, and the tests' Glance, find them there.
install_volumes() {
    local wanted
    wanted=$(sha256sum <"$volumes_file")
    [ "$(cat "$volumes/installed" 2>/dev/null)" != "$wanted" ] || return 0
    say "installing Keystone and Cinder into $volumes"
    rm -rf "$volumes"
    logged /usr/bin/python3 -m venv "$volumes"
    logged "$venv/bin/uv" pip install -p "$volumes/bin/python" \
        -c "$openstack_files/constraints.txt" -r "$volumes_file"
    link_ceph "$volumes"
    printf '%s\n' "$wanted" >"$volumes/installed"
}

# Install a client into an environment of its own: its folder, and the package.
install_client() {
    local folder=$clients/$1 package=$2
    [ ! -e "$folder/installed" ] || return 0
    say "installing $package into $folder"
    rm -rf "${folder:?}"
    logged /usr/bin/python3 -m venv "$folder"
    logged "$venv/bin/uv" pip install -p "$folder/bin/python" "$package"
    touch "$folder/installed"
}

install_openstackclients() {
    local version
    for version in "$@"; do
        install_client "$version" "python-openstackclient==$version"
    done
}

main() {
    local extras='' quick=0 tests=0 cloud=0 disks=0 users='' word
    for word in "$@"; do
        case $word in
            --quick)
                quick=1
                tests=1
                packages=$quick_packages
                ;;
            --tests)
                tests=1
                packages+=$test_packages
                ;;
            --client) [ -n "$users" ] || users=$newest_client ;;
            --clients) users=$client_versions ;;
            --volumes)
                disks=1
                packages+=$volume_packages
                ;;
            --openstack)
                cloud=1
                packages+=$openstack_packages
                ;;
            -*)
                printf 'usage: tools/setup.sh %s\n' --quick \
                    '[--tests] [--client | --clients] [--volumes] [--openstack] [EXTRA...]' \
                    >&2
                return 2
                ;;
            *) extras=${extras:+$extras,}$word ;;
        esac
    done
    mkdir -p "$(dirname "$log")"
    : >"$log"
    install_packages
    make_venv
    [ "$tests" = 0 ] || extras=${extras:+$extras,}api
    install_python "$extras" "$quick" "$tests"
    install_openstackclients $users
    if [ "$users" = "$client_versions" ]; then
        install_client "nova-$novaclient" "python-novaclient==$novaclient"
        install_client "tempest-$tempest" "tempest==$tempest"
    fi
    [ "$disks" = 0 ] || install_volumes
    if [ "$cloud" = 1 ]; then
        install_openstack
        link_ceph "$openstack"
    fi
    say "ready: $venv/bin"
}

main "$@"
