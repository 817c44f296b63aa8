"""A streaming client of any OpenAI-compatible chat server: one request with the time of each piece, and a load of many.
Standard library only."""
import http.client
import json
import threading
import time
import urllib.parse

from common import Failure, percentile

WORDS = ("the of and to in is that it was for on are with as his they be at one have this from or had by not but some what there we "
         "can out other were all your when up use word how said an each she which do their time if will way about many then them "
         "would write like so these her long make thing see him two has look more day could go come did my sound no most number who "
         "over know water than call first people may down side been now find any new work part take get place made live where after").split()


def words(n, seed):
    """n common words, one token each in most vocabularies; other ones for each seed."""
    state, out = seed * 7919 + 12345, []
    for _ in range(n):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        out.append(WORDS[(state >> 8) % len(WORDS)])
    return " ".join(out)


def get(url, path, timeout=5):
    u = urllib.parse.urlsplit(url)
    c = http.client.HTTPConnection(u.hostname, u.port, timeout=timeout)
    try:
        c.request("GET", path)
        r = c.getresponse()
        return r.status, r.read()
    finally:
        c.close()


def chat(url, model, content, max_tokens, system=None, seen=None, stop=None, **fields):
    """One streamed request. seen(time) is called at each piece; stop: an event that ends it early.
    Returns begin, first, times of the pieces, completion, prompt and cached tokens, text."""
    u = urllib.parse.urlsplit(url)
    c = http.client.HTTPConnection(u.hostname, u.port, timeout=600)
    messages = ([{"role": "system", "content": system}] if system else []) + [{"role": "user", "content": content}]
    body = {"model": model, "messages": messages, "max_tokens": max_tokens, "temperature": 0, "stream": True,
            "stream_options": {"include_usage": True}, **fields}
    begin, times, usage, text = time.perf_counter(), [], {}, []
    c.request("POST", u.path + "/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    r = c.getresponse()
    if r.status != 200:
        raise Failure(f"HTTP {r.status}: {r.read(300)!r}")
    for line in r:
        line = line.strip()
        if not line.startswith(b"data:") or line[5:].strip() == b"[DONE]":
            continue
        d = json.loads(line[5:])
        usage = d.get("usage") or usage
        piece = d.get("choices") and (d["choices"][0].get("delta") or {}).get("content")
        if piece:
            times.append(time.perf_counter())
            text.append(piece)
            if seen:
                seen(times[-1])
        if stop is not None and stop.is_set():
            break
    c.close()
    return {"begin": begin, "first": times[0] if times else None, "times": times, "tokens": usage.get("completion_tokens", len(times)),
            "prompt": usage.get("prompt_tokens", 0), "text": "".join(text),
            "cached": (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)}


def together(calls, clients=None):
    """Run the calls on as many threads (or `clients`): their results in order; the first failure is raised."""
    results, todo, lock = [None] * len(calls), list(range(len(calls))), threading.Lock()

    def work():
        while True:
            with lock:
                if not todo:
                    return
                i = todo.pop(0)
            try:
                results[i] = calls[i]()
            except Exception as e:                   # a server that went away, in whatever way
                results[i] = e
    threads = [threading.Thread(target=work) for _ in range(clients or len(calls))]
    [t.start() for t in threads], [t.join() for t in threads]
    for r in results:
        if isinstance(r, Exception):
            raise r if isinstance(r, Failure) else Failure(f"client: {type(r).__name__}: {r}")
    return results


def load(url, model, clients, requests, max_tokens):
    """Streaming clients, each with the next request as soon as its last one ended."""
    begin = time.perf_counter()
    done = together([lambda i=i: chat(url, model, f"Write a short story about the number {i} and a traveller who meets it.", max_tokens)
                     for i in range(requests)], clients)
    seconds = time.perf_counter() - begin
    done = [d for d in done if d["first"]]
    first = [d["first"] - d["begin"] for d in done]
    return {"ok": len(done), "failed": requests - len(done), "seconds": seconds, "out_tok_s": sum(d["tokens"] for d in done) / seconds,
            "ttft_p50": percentile(first, .5), "ttft_p95": percentile(first, .95)}
