#!/usr/bin/env bash
# Run the tests and print one closing line: "N passed, N failed".
# usage: tests/run.sh [unit] [blackbox]     BUILD=build   each unit test is one cmocka program under $BUILD/tests
set -u
cd "$(dirname "$0")/.." || exit 1
build=${BUILD:-build}
passed=0 failed=0
unit() {
    local t out rc n f
    for t in $(find "$build/tests" -type f -name 'test_*' ! -name '*.d' ! -name '*.o' | sort); do
        # A program whose source is gone (an older build) does not count.
        [ -f "tests/${t#"$build"/tests/}.c" ] || continue
        out=$("$t" 2>&1)
        rc=$?
        n=$(printf '%s\n' "$out" | grep -ac '^\[       OK \]')
        f=0
        if [ $rc -ne 0 ]; then
            f=$(printf '%s\n' "$out" | grep -ac '^\[  FAILED  \] [a-zA-Z_0-9]*$')
            [ "$f" -gt 0 ] || f=1
            printf '%s\n' "$out" | tail -60
            printf 'FAILED  %s (exit %d)\n' "$t" $rc
        else
            printf 'ok %4d  %s\n' "$n" "${t#"$build"/tests/}"
        fi
        passed=$((passed + n)) failed=$((failed + f))
    done
}
# The official client lives in a virtual environment under build/, made once.
blackbox() {
    local venv=build/venv log=$build/blackbox.log rc n f
    if ! cmp -s tests/requirements.txt $venv/requirements.txt; then
        python3 -m venv $venv && $venv/bin/pip install -q --disable-pip-version-check -r tests/requirements.txt &&
            cp tests/requirements.txt $venv/requirements.txt || { failed=$((failed + 1)); return; }
    fi
    BAIMO_PROGRAM=$PWD/$build/baimo $venv/bin/python -m pytest -q -p no:cacheprovider tests/blackbox 2>&1 | tee "$log"
    rc=${PIPESTATUS[0]}
    n=$(grep -aoE '[0-9]+ passed' "$log" | tail -1 | cut -d' ' -f1)
    f=$(grep -aoE '[0-9]+ (failed|error)' "$log" | cut -d' ' -f1 | awk '{s += $1} END {print s + 0}')
    [ "$rc" -eq 0 ] || [ "${f:-0}" -gt 0 ] || f=1
    [ "$rc" -ne 0 ] || f=0
    passed=$((passed + ${n:-0})) failed=$((failed + ${f:-0}))
}
for what in ${*:-unit}; do $what; done
printf '%d passed, %d failed\n' $passed $failed
[ $failed -eq 0 ] && [ $passed -gt 0 ]
