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

# Runs commands in a clone of this checkout's HEAD on a Debian that has nothing
# but git and Python:
#
#   tools/fresh.sh SUITE COMMAND...
#
#   tools/fresh.sh bookworm tools/demo.sh 'tools/demo.sh --down'
#   tools/fresh.sh trixie bash
#
# makes a minimal Debian SUITE (debootstrap) in a folder of its own, runs each
# COMMAND there with bash, in turn, whether or not one before it failed, and
# prints how long each part took.  At the end, however it comes, all that still
# runs there is killed and the folder removed.  Fails if any command did.
#
# It works on a Debian host, as root or with sudo; the archive, the proxies and
# the certificates are the host's.  The folder lies in
# ${XDG_CACHE_HOME:-~/.cache}/nova_snap-fresh/SUITE, beside what was downloaded
# and is kept for the next run: Debian's packages, and Python's as they were
# published, never as they were built.  One run at a time uses it.

set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# What tells a program how to reach a registry.  Not those that name folders of
# the host, such as PIP_FIND_LINKS.
network_variables="
    http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY
    PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST PIP_DEFAULT_TIMEOUT
    UV_INDEX_URL UV_DEFAULT_INDEX UV_INDEX UV_HTTP_TIMEOUT"
# What names a file of certificates.
certificate_variables="PIP_CERT SSL_CERT_FILE REQUESTS_CA_BUNDLE CURL_CA_BUNDLE"

if [ "$(id -u)" != 0 ]; then
    kept=$(echo XDG_CACHE_HOME $network_variables $certificate_variables)
    exec sudo --preserve-env="${kept// /,}" "$0" "$@"
fi

say() { printf 'fresh: %s: %s\n' "$suite" "$*"; }

fail() {
    say "$*" >&2
    exit 1
}

# Run a command with its output in a log, which is shown if the command fails.
quietly() {
    "$@" >"$folder/log" 2>&1 </dev/null || {
        tail -n 30 "$folder/log" >&2
        fail "failed: $*"
    }
}

# Run a part, print how long it took, and set $status.  Not in a condition,
# where "set -e" has no effect.
timed() {
    local name=$1 began=$SECONDS took result=passed
    shift
    set +e
    (
        set -e
        "$@"
    )
    status=$?
    set -e
    [ "$status" = 0 ] || result=failed
    took=$((SECONDS - began))
    printf '%s  %3d:%02d  %s  %s\n' \
        "$suite" $((took / 60)) $((took % 60)) "$result" "$name" |
        tee -a "$folder/times"
}

# Not by two runs at a time, of two suites.
install_debootstrap() (
    flock 8
    command -v debootstrap >/dev/null || {
        say 'installing debootstrap on this host'
        apt-get update -qq &&
            DEBIAN_FRONTEND=noninteractive apt-get install -qq -y \
                --no-install-recommends debootstrap
    } </dev/null || fail 'debootstrap is not to be had, and nothing else will do'
) 8>"${folder%/*}/lock"

# The URIs of the Debian archive in the host's apt sources that has a release.
archive_of() {
    apt-get indextargets --format '$(RELEASE) $(REPO_URI)' "Component: main" |
        sed -n "s/^$1 //p" | head -n 1
}

make_debian() {
    local host archive security
    host=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    archive=$(archive_of "$host")
    security=$(archive_of "$host-security")
    [ -n "$archive" ] || fail "no archive of Debian in this host's apt sources"
    # Nobody minds what a power failure does to it.
    mkdir -p "$tree/etc/dpkg/dpkg.cfg.d"
    echo force-unsafe-io >"$tree/etc/dpkg/dpkg.cfg.d/unsafe-io"
    quietly debootstrap --variant=minbase --cache-dir="$folder/debs" \
        "$suite" "$tree" "$archive"
    {
        printf 'deb %s %s main\n' "$archive" "$suite"
        printf 'deb %s %s-updates main\n' "$archive" "$suite"
        [ -z "$security" ] ||
            printf 'deb %s %s-security main\n' "$security" "$suite"
    } >"$tree/etc/apt/sources.list"
}

# Let the Debian see the kernel, the network and the caches.
connect_to_host() {
    local file
    mount -t proc proc "$tree/proc"
    mount --rbind /sys "$tree/sys"
    mount --rbind /dev "$tree/dev"
    mount -t tmpfs -o mode=1777 shm "$tree/dev/shm"
    mount -t tmpfs -o mode=755 run "$tree/run"
    mkdir "$tree/run/lock"
    mkdir -p "$tree/var/cache/uv" "$tree/var/cache/pip"
    mount --bind "$folder/debs" "$tree/var/cache/apt/archives"
    mount --bind "$folder/uv" "$tree/var/cache/uv"
    mount --bind "$folder/pip" "$tree/var/cache/pip"
    apt-config dump | grep -E '^Acquire::(https?|Check-|Retries)' \
        >"$tree/etc/apt/apt.conf.d/99host" || true
    for file in /etc/hosts /etc/resolv.conf /etc/pip.conf \
        ~/.config/pip/pip.conf ~/.pip/pip.conf \
        /etc/uv/uv.toml ~/.config/uv/uv.toml \
        /usr/local/share/ca-certificates/*.crt; do
        [ ! -e "$file" ] || install -D -m 644 "$file" "$tree/${file/#~//root}"
    done
}

# What the README asks for, and the certificates to get the rest with.
install_prerequisites() {
    quietly inside apt-get update
    quietly inside apt-get install -y --no-install-recommends \
        git python3 ca-certificates
}

# Run a command in the Debian.  Its environment has nothing of ours but how to
# reach the network, and where to keep what it downloads.
inside() {
    local variable environment=()
    for variable in $network_variables $certificate_variables; do
        [ -z "${!variable:-}" ] ||
            environment+=("$variable=${!variable}")
    done
    # uv can't link across the mount of its cache.
    chroot "$tree" /usr/bin/env -i HOME=/root TERM="${TERM:-dumb}" \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        DEBIAN_FRONTEND=noninteractive "${environment[@]}" \
        PIP_CACHE_DIR=/var/cache/pip \
        UV_CACHE_DIR=/var/cache/uv UV_LINK_MODE=copy "$@"
}

# A certificate file that is no package's.
copy_certificates() {
    local variable file
    for variable in $certificate_variables; do
        file=${!variable:-}
        [ -z "$file" ] || [ ! -f "$file" ] || [ -e "$tree$file" ] ||
            install -D -m 644 "$file" "$tree$file"
    done
}

clone() {
    quietly git clone "$top" "$tree/root/nova_snap"
    say "cloned $(git -C "$top" log -1 --format='%h %s')"
}

summarize() {
    printf '\n'
    say 'how long each part took (minutes)'
    cat "$folder/times"
}

# All that happens in namespaces of its own, as their first process.
be_init() {
    local status=0 failed=0 command
    : >"$folder/times"
    mkdir "$tree"
    trap 'detach_loop_devices; summarize' EXIT
    mount --bind "$tree" "$tree"
    for part in make_debian connect_to_host install_prerequisites \
        copy_certificates clone; do
        timed "$part" "$part"
        [ "$status" = 0 ] || exit 1
    done
    for command in "$@"; do
        say "\$ $command"
        timed "$command" inside bash -c "cd /root/nova_snap && $command"
        [ "$status" = 0 ] || failed=1
    done
    exit "$failed"
}

# Loop devices outlive the namespaces; those whose files lie in the tree go.
# Their paths begin with the tree's while the mounts are there, no longer.
detach_loop_devices() {
    local device inode path
    losetup --list --noheadings --raw --output NAME,BACK-INO,BACK-FILE |
        while read -r device inode path; do
            if [[ $path = "$tree"/* ]] ||
                [ -n "$(find "$tree" -xdev -inum "$inode" -print -quit)" ]; then
                losetup --detach "$device"
            fi
        done
}

remove_tree() {
    [ -d "$tree" ] || return 0
    detach_loop_devices
    rm -rf --one-file-system "$tree"
}

# Kill what still runs.  unshare ends when the first process of the namespaces
# has, and that one when all of them have.
end() {
    [ ! -d "$tree" ] || detach_loop_devices
    if [ -n "$init" ]; then
        kill -KILL $(cat "/proc/$init/task/$init/children") ||
            kill -KILL "$init" || true
        wait "$init" || true
    fi 2>/dev/null
    remove_tree
}

[ $# -ge 2 ] || {
    printf 'usage: tools/fresh.sh SUITE COMMAND...\n' >&2
    exit 2
}
suite=$1
shift
folder=${XDG_CACHE_HOME:-$HOME/.cache}/nova_snap-fresh/$suite
tree=$folder/tree

if [ "${1:-}" = --be-init ]; then
    shift
    be_init "$@"
fi

mkdir -p "$folder"/{debs,uv,pip}
exec 9>"$folder/lock"
flock --nonblock 9 || {
    say 'waiting for another run to end'
    flock 9
}
remove_tree
# uv's cache of what it built: a compiler that is missing must be missed.
rm -rf "$folder"/uv/{sdists,builds}-v*
install_debootstrap

init=''
trap end EXIT
trap 'exit 130' INT TERM HUP
# When this process is killed, unshare is, by setpriv, and so all the rest is.
setpriv --pdeathsig KILL unshare --mount --propagation private --ipc --uts \
    --pid --fork --kill-child --mount-proc \
    "$0" "$suite" --be-init "$@" <&0 9>&- &
init=$!
status=0
wait "$init" || status=$?
init=''
exit "$status"
