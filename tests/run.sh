#!/usr/bin/env bash
# Run the test programs and print one closing line: "N passed, N failed".
# usage: tests/run.sh [unit] [blackbox]     BUILD=build   each unit test is one cmocka program under $BUILD/tests
set -u
build=${BUILD:-build}
passed=0 failed=0
unit() {
    local t out n f
    for t in "$build"/tests/*/test_*; do
        [ -x "$t" ] && [ -f "$t" ] || continue
        case $t in *.d) continue ;; esac
        out=$("$t" 2>&1)
        rc=$?
        n=$(printf '%s\n' "$out" | grep -ac '^\[       OK \]')
        f=$(printf '%s\n' "$out" | grep -ac '^\[  FAILED  \] [a-zA-Z_0-9]*$')
        if [ $rc -ne 0 ]; then
            [ "$f" -gt 0 ] || f=1
            printf '%s\n' "$out" | tail -40
            printf 'FAILED  %s (exit %d)\n' "$t" $rc
        else
            f=0
            printf 'ok %4d  %s\n' "$n" "${t#"$build"/tests/}"
        fi
        passed=$((passed + n)) failed=$((failed + f))
    done
}
for what in ${*:-unit}; do $what; done
printf '%d passed, %d failed\n' $passed $failed
[ $failed -eq 0 ] && [ $passed -gt 0 ]
