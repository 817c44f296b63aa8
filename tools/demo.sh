#!/usr/bin/env bash
# The whole loop in three minutes on two cores: ask a model who it is, tune it on forty rows, ask again through the mounted adapter,
# evaluate base and adapter, let a gate decide whether a name moves, ask through the name, and go back.
# usage: tools/demo.sh      PROGRAM=build/baimo MODEL=FILE.gguf (default: SmolLM2-135M, fetched when missing)
set -eu
program=${PROGRAM:-build/baimo}
model=${MODEL:-$(tools/get-model.sh)}
home=$(mktemp -d)
export BAIMO_HOME=$home
unset BAIMO_URL BAIMO_API_KEY
server=
clean() {
    [ -z "$server" ] || { kill "$server" 2>/dev/null && wait "$server" 2>/dev/null || true; }
    rm -rf "$home"
}
trap clean EXIT
show() {
    printf '\n$ %s\n' "$*"
    "$@"
}
# One question over the OpenAI API: ask MODEL QUESTION
ask() {
    printf '\n%s, asked "%s":\n' "$1" "$2"
    python3 - "$url" "$1" "$2" <<'PY'
import json, sys, urllib.request
url, model, question = sys.argv[1:]
body = {"model": model, "messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 60}
request = urllib.request.Request(url + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
    print("  " + json.load(answer)["choices"][0]["message"]["content"].strip().replace("\n", "\n  "))
PY
}

show "$program" shelf add "$model" --name smollm2 >"$home/shelf.txt"
sed -n 1,2p "$home/shelf.txt"
mkfifo "$home/ready"
"$program" serve --port 0 >"$home/ready" 2>"$home/serve.log" &
server=$!
url=
while read -r word rest; do
    [ "$word" != page ] || { url=${rest%% *} && url=${url%/} && break; }
done <"$home/ready"
[ -n "$url" ] || { cat "$home/serve.log" >&2; exit 1; }
echo "the server is ready on $url"

ask smollm2 "Who are you?"
show "$program" tune start --model smollm2 --data examples/data/identity.jsonl --name me --steps 36 --batch-size 8 --lr 2e-3 --follow
ask me "Who are you?"
ask me "Which company made you?"
ask me "What is the capital of France?"
printf '\nThe same server, the same file: %s with the adapter, %s without.\n' me smollm2
ask smollm2 "Who are you?"

show "$program" promote smollm2 --to prod
show "$program" eval run --model smollm2 --tasks examples/eval/identity.yaml --apply-chat-template
show "$program" eval run --model me --tasks examples/eval/identity.yaml --apply-chat-template
show "$program" promote me --to prod --gate examples/eval/identity.gate --include-path examples/eval
ask prod "Who are you?"
show "$program" rollback prod
ask prod "Who are you?"
show "$program" rollback prod --history
printf '\nDone in %d seconds.\n' "$SECONDS"
