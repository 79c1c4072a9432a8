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
# runs the tox environments named, by default py3, nova, pep8, docs,
# releasenotes, functional and openstack, and ends with a line that counts what
# ran.  A check that is no test run (pep8, docs) counts as one test.  Works as
# root, or with sudo: the last two start a libvirtd of their own, which needs
# root; they run at the same time.

set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top"

if [ "$(id -u)" != 0 ]; then
    exec sudo --preserve-env=PATH "$0" "$@"
fi

# tox takes the Python of this environment, the distribution's: libnbd's
# binding exists for that one only.
PATH=$top/.venv/bin:$PATH

environments=${*:-py3 nova pep8 docs releasenotes functional openstack}
log=$top/.lab/test.log

cloud=''
volumes=''
case " $environments " in *' openstack '*) cloud=--openstack ;; esac
case " $environments " in
    *' functional '* | *' openstack '*) volumes=--volumes ;;
esac
tools/setup.sh --tests $volumes $cloud demo stream
rm -f "$top"/.lab/test-*

# Environments whose tests wait for real guests most of their time, so that
# they run at the same time.
slow=' functional openstack '

# The sum of the numbers behind a word in stestr's summaries.
sum_of() {
    sed -n "s/^ - $1: \([0-9]*\)$/\1/p" "$2" | awk '{n += $1} END {print n + 0}'
}

# Run an environment: its output, and a file with how much passed and failed.
check() {
    local environment=$1 status=0 tests failures again left
    local part=$top/.lab/test-$environment.log
    printf '\n======== %s ========\n' "$environment"
    tox -q -e "$environment" 2>&1 | tee "$part" || status=$?
    tests=$(sum_of Passed "$part")
    failures=$(sum_of Failed "$part")
    if [ "$failures" != 0 ] && [[ $slow = *" $environment "* ]]; then
        # On a host that does other things, too: what fails is run once more,
        # and both runs are in the log.
        printf '\n%d failed; running them once more\n' "$failures"
        status=0
        tox -q -e "$environment" -- --failing 2>&1 | tee "$part.again" ||
            status=$?
        cat "$part.again" >>"$part"
        again=$(sum_of Passed "$part.again")
        left=$(sum_of Failed "$part.again")
        tests=$((tests + again))
        # A class whose setting up failed can't be run again by its name, and
        # has failed.
        [ "$((again + left))" -lt "$failures" ] || failures=$left
    fi
    if [ "$tests" = 0 ] && [ "$failures" = 0 ] && [ "$status" = 0 ]; then
        tests=1
    fi
    # An environment that failed without a failing test still failed.
    if [ "$status" != 0 ] && [ "$failures" = 0 ]; then
        failures=1
    fi
    printf '%d %d\n' "$tests" "$failures" >"$part.count"
}

at_once=()
for environment in $environments; do
    if [[ $slow = *" $environment "* ]]; then
        at_once+=("$environment")
    else
        check "$environment"
    fi
done
if [ "${#at_once[@]}" = 1 ]; then
    check "${at_once[0]}"
else
    for environment in "${at_once[@]}"; do
        check "$environment" 2>&1 | sed -u "s/^/$environment: /" &
    done
    wait
fi

failed_environments=''
passed=0
failed=0
: >"$log"
for environment in $environments; do
    part=$top/.lab/test-$environment.log
    cat "$part" >>"$log"
    # None, if its check was killed.
    counts=$(cat "$part.count" 2>/dev/null || echo 0 1)
    passed=$((passed + ${counts% *}))
    failed=$((failed + ${counts#* }))
    [ "${counts#* }" = 0 ] || failed_environments+=" $environment"
done

printf '\n'
[ -z "$failed_environments" ] || printf 'failed:%s (%s)\n' "$failed_environments" "$log"
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
