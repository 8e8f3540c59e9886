#!/bin/sh
# Run every check of the repository and say at the end which failed: checks.sh BIN [TEST_PROCESSES]
#
# BIN is the folder of the environment's programs. Without TEST_PROCESSES the tests are left out. All checks run, so
# that one look shows everything; the exit code is 1 where any of them failed.
set -u
bin=$1
workers=${2:-}
failed=""

step() {
    name=$1
    shift
    echo "== $name"
    "$@" || failed="$failed $name"
}

step format "$bin/ruff" format --check .
step lint "$bin/ruff" check .
step types "$bin/pyright"
step imports "$bin/lint-imports"
if [ -n "$workers" ]; then
    # One thread a process: the test processes share the cores already.
    step tests env OMP_NUM_THREADS=1 "$bin/python" -m pytest -n "$workers"
fi
[ -z "$failed" ] && exit 0
echo "failed:$failed"
exit 1
