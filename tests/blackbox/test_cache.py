"""The prefix cache as a client sees it: the same answers sooner, counted, and never another tenant's."""
from concurrent.futures import ThreadPoolExecutor

from conftest import SMOLLM2, TINY

TEXT = list(range(100, 400))        # 300 tokens: four whole pages and a part


def complete(server, prompt, headers=None, **fields):
    body = {"prompt": prompt, "max_tokens": 8, "temperature": 0, "ignore_eos": True, **fields}
    r = server.json("POST", "/v1/completions", body, headers)
    return r["choices"][0]["text"], r["usage"]["prompt_tokens_details"]["cached_tokens"], r


def test_a_second_request_takes_over_what_the_first_computed(start):
    s = start("--model", SMOLLM2, "--ctx", "2048")
    cold, cached, _ = complete(s, TEXT)
    assert cached == 0
    hit, cached, r = complete(s, TEXT)
    assert hit == cold and cached == 299         # the last page is not whole: copied; the last token gives the logits
    assert r["timings"]["cached_n"] == 299 and r["timings"]["prompt_n"] == 1
    off, cached, _ = complete(s, TEXT, cache_prompt=False)
    assert off == cold and cached == 0
    longer, cached, _ = complete(s, TEXT[:200] + [7, 8, 9])
    assert cached == 200            # the page in the middle is copied
    e = s.ps()["engine"]
    assert e["cached_tokens"] == 499 and e["computed_tokens"] == 300 + 1 + 300 + 3 and e["prompt_tokens"] == 1103
    assert e["kv_used_bytes"] == 0 and e["kv_cached_bytes"] > 0
    assert s.ps()["models"][0]["kv_cached_bytes"] == e["kv_cached_bytes"]
    assert s.stop() == 0
    assert "499" in s.command("usage")


def test_the_next_turn_of_a_chat_hits(start):
    s = start("--model", SMOLLM2, "--ctx", "2048")
    messages = [{"role": "user", "content": "Tell me about the sea, the mountains and the sky. " * 8}]
    body = {"messages": messages, "temperature": 0, "max_tokens": 70}
    first = s.json("POST", "/v1/chat/completions", body)
    messages += [first["choices"][0]["message"], {"role": "user", "content": "And the moon?"}]
    second = s.json("POST", "/v1/chat/completions", body)
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] >= 64
    cold = s.json("POST", "/v1/chat/completions", {**body, "cache_prompt": False})
    assert cold["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert cold["choices"][0]["message"] == second["choices"][0]["message"]


def test_a_prefix_asked_for_by_many_at_once_is_computed_once(start):
    s = start("--model", SMOLLM2, "--ctx", "2048")
    prompts = [list(range(1000, 2000)) + [50 + i] * 5 for i in range(8)]
    # One request of eight prompts: they arrive together.
    r = s.json("POST", "/v1/completions", {"prompt": prompts, "max_tokens": 1, "temperature": 0})
    assert r["usage"]["prompt_tokens_details"]["cached_tokens"] == 7 * 1000
    assert s.ps()["engine"]["computed_tokens"] == 1000 + 8 * 5


def test_keys_do_not_share(start):
    s = start("--model", SMOLLM2, "--ctx", "2048")
    words = [s.command("key", "add", name).split() for name in ("ann", "bob")]
    ann, bob = ({"Authorization": "Bearer " + next(w for w in k if w.startswith("bm-"))} for k in words)
    assert complete(s, TEXT, ann)[1] == 0
    assert complete(s, TEXT, bob)[1] == 0
    assert complete(s, TEXT, ann)[1] == 299
    assert complete(s, TEXT, bob)[1] == 299
    # Nor what is being computed at this moment.
    other = list(range(5000, 5600))
    with ThreadPoolExecutor(2) as pool:
        assert [f.result()[1] for f in [pool.submit(complete, s, other, k) for k in (ann, bob)]] == [0, 0]


def test_without_the_cache_every_prompt_is_computed(start):
    s = start("--model", TINY, "--no-prefix-cache")
    prompt = [5 + i % 50 for i in range(150)]
    for _ in range(2):
        assert complete(s, prompt)[1] == 0
    assert s.ps()["engine"]["kv_cached_bytes"] == 0
