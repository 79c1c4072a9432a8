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
#   tools/test.sh [ENVIRONMENT...]
#
# runs the tox environments named, by default py3, pep8, docs, releasenotes,
# functional and openstack, and ends with a line that counts what ran.  A check
# that is no test run (pep8, docs) counts as one test.  Works as root, or with
# sudo: both of the latter start a libvirtd of their own, which needs root.

set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top"

if [ "$(id -u)" != 0 ]; then
    exec sudo --preserve-env=PATH "$0" "$@"
fi

# tox takes the Python of this environment, the distribution's: libnbd's
# binding exists for that one only.
PATH=$top/.venv/bin:$PATH

environments=${*:-py3 pep8 docs releasenotes functional openstack}
log=$top/.lab/test.log

cloud=''
volumes=''
case " $environments " in *' openstack '*) cloud=--openstack ;; esac
case " $environments " in *' functional '*) volumes=--volumes ;; esac
tools/setup.sh --tests $volumes $cloud demo stream
: >"$log"

failed_environments=''
passed=0
failed=0

# The sum of the numbers behind a word in stestr's summaries.
sum_of() {
    sed -n "s/^ - $1: \([0-9]*\)$/\1/p" "$2" | awk '{n += $1} END {print n + 0}'
}

# Run an environment; its output goes to a file, too.
run() {
    local part=$1
    shift
    tox -q -e "$@" 2>&1 | tee "$part"
}

for environment in $environments; do
    printf '\n======== %s ========\n' "$environment"
    part=$top/.lab/test-$environment.log
    status=0
    run "$part" "$environment" || status=$?
    cat "$part" >>"$log"
    tests=$(sum_of Passed "$part")
    failures=$(sum_of Failed "$part")
    if [ "$failures" != 0 ] && [[ $environment =~ ^(functional|openstack)$ ]]; then
        # Real guests on a host that does other things, too: what fails is
        # run once more, and both runs are in the log.
        printf '\n%d failed; running them once more\n' "$failures"
        status=0
        run "$part" "$environment" -- --failing || status=$?
        cat "$part" >>"$log"
        tests=$((tests + $(sum_of Passed "$part")))
        failures=$(sum_of Failed "$part")
    fi
    if [ "$tests" = 0 ] && [ "$failures" = 0 ] && [ "$status" = 0 ]; then
        tests=1
    fi
    # An environment that failed without a failing test still failed.
    if [ "$status" != 0 ] && [ "$failures" = 0 ]; then
        failures=1
    fi
    [ "$failures" = 0 ] || failed_environments+=" $environment"
    passed=$((passed + tests))
    failed=$((failed + failures))
done

printf '\n'
[ -z "$failed_environments" ] || printf 'failed:%s (%s)\n' "$failed_environments" "$log"
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
