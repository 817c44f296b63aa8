#!/usr/bin/env bash
# Install the Debian or Ubuntu packages that are missing. Without root: print the exact line and exit 2.
# usage: tools/setup.sh [test] [browser] [fuzz]      the words add to what building needs; browser: the test of the page
set -eu
build="gcc make pkg-config libevent-dev libssl-dev libjansson-dev libsqlite3-dev libutf8proc-dev libedit-dev libyaml-dev libpcre2-dev python3 python3-pip ca-certificates curl"
want=$build
for what in "$@"; do
    case $what in
        test) want="$want libcmocka-dev python3-venv" ;;
        browser)
            want="$want chromium"
            command -v npm >/dev/null || want="$want nodejs npm" ;;
        fuzz) want="$want clang libclang-rt-14-dev|libclang-rt-18-dev" ;;
        *) echo "setup.sh: unknown word $what" >&2; exit 2 ;;
    esac
done
installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
if ! command -v dpkg-query >/dev/null; then
    echo "baimo: not a Debian or Ubuntu system: install these yourself: $want" >&2
    exit 0
fi
missing=
for p in $want; do
    first=${p%%|*}; other=${p##*|}
    installed "$first" || installed "$other" || missing="$missing $p"
done
# Other builds of the same tools (a self-built python3 or gcc in PATH) do not count as the packages: headers must be there.
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
    line=
    for p in $missing; do line="$line ${p%%|*}"; done
    echo "baimo: missing packages. Run:" >&2
    echo "    sudo apt-get install -y$line" >&2
    exit 2
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
line=
for p in $missing; do
    first=${p%%|*}; other=${p##*|}
    if [ -n "$(apt-cache policy "$first" 2>/dev/null | grep 'Candidate: [^(]')" ]; then line="$line $first"; else line="$line $other"; fi
done
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $line >/dev/null
