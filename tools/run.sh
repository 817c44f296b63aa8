#!/usr/bin/env bash
# What `make run` does after the build: a model on the shelf, then the server.   tools/run.sh [MODEL.gguf] [serve's flags]
set -eu
program=${PROGRAM:-build/baimo}
model=${1:-}
[ $# -eq 0 ] || shift
if [ -n "$model" ]; then
    exec "$program" serve --model "$model" "$@"
fi
file=$(tools/get-model.sh)
"$program" shelf add "$file" --name smollm2
exec "$program" serve --model smollm2 "$@"
