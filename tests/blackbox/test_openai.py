"""What the official client sees: answers, streams, choices, log-probabilities, and each class of error."""
import json

import openai
import pytest

# With the system message of its own template, SmolLM2-135M (in llama.cpp too) does not know; with this one it does.
PARIS = [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "What is the capital of France?"}]


def test_a_real_model_answers(client):
    r = client.chat.completions.create(model="smollm2", messages=PARIS, temperature=0, max_tokens=30,
                                       extra_body={"cache_prompt": False})
    assert "Paris" in r.choices[0].message.content
    assert r.object == "chat.completion" and r.id.startswith("chatcmpl-") and r.model == "smollm2"
    assert r.choices[0].finish_reason == "stop" and r.choices[0].message.role == "assistant"
    u = r.usage
    assert u.total_tokens == u.prompt_tokens + u.completion_tokens and u.prompt_tokens > 5 and u.completion_tokens > 3
    assert u.prompt_tokens_details.cached_tokens == 0
    t = r.timings
    assert t["prompt_n"] == u.prompt_tokens and t["predicted_n"] == u.completion_tokens and t["cached_n"] == 0
    assert t["prompt_ms"] > 0 and t["predicted_ms"] > 0 and t["prompt_per_second"] > 0 and t["predicted_per_second"] > 0 and t["queue_ms"] >= 0


def test_a_stream_is_the_whole_answer_in_pieces(client):
    ask = dict(model="smollm2", messages=PARIS, temperature=0, max_tokens=30)
    whole = client.chat.completions.create(**ask)
    chunks = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len(chunks) > 5 and len({c.id for c in chunks}) == 1 and all(c.object == "chat.completion.chunk" for c in chunks)
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["stop"]
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert all(c.usage is None for c in chunks[:-1])
    assert chunks[-2].timings["predicted_n"] == whole.usage.completion_tokens


def test_guesses_are_counted_and_change_nothing(client, start):
    from conftest import TINY
    words = "one two three four five six seven eight nine ten " * 6
    ask = dict(prompt=words, temperature=0, max_tokens=120, extra_body={"ignore_eos": True})
    r = client.completions.create(model="tiny", **ask)
    assert r.timings.get("draft_n_accepted", 0) <= r.timings.get("draft_n", 0) and r.timings["predicted_n"] == r.usage.completion_tokens == 120
    s = start("--model", TINY, BAIMO_NO_SPECULATION="1")
    plain = s.client().completions.create(model=s.ps()["models"][0]["name"], **ask)
    assert plain.choices[0].text == r.choices[0].text and "draft_n" not in plain.timings


def test_without_include_usage_there_is_no_usage_but_timings(client):
    chunks = list(client.chat.completions.create(model="tiny", messages=PARIS, max_tokens=4, stream=True))
    assert all(c.choices for c in chunks) and all(getattr(c, "usage", None) is None for c in chunks)
    assert chunks[-1].timings["predicted_n"] >= 1


def test_two_choices_differ_and_are_reproducible(client):
    ask = dict(model="smollm2", messages=[{"role": "user", "content": "Tell me a story."}], n=2, seed=7, temperature=1, max_tokens=24)
    a, b = client.chat.completions.create(**ask), client.chat.completions.create(**ask)
    texts = [c.message.content for c in a.choices]
    assert [c.index for c in a.choices] == [0, 1] and texts[0] != texts[1]
    assert texts == [c.message.content for c in b.choices]
    assert a.usage.completion_tokens <= 48 and a.usage.completion_tokens > 24
    streamed = ["", ""]
    for c in client.chat.completions.create(**ask, stream=True):
        streamed[c.choices[0].index] += c.choices[0].delta.content or ""
    assert streamed == texts
    other = client.chat.completions.create(**{**ask, "seed": 8})
    assert texts != [c.message.content for c in other.choices]


def test_without_a_seed_answers_differ(client):
    ask = dict(model="smollm2", messages=[{"role": "user", "content": "Invent a name."}], temperature=1.5, max_tokens=16)
    assert len({client.chat.completions.create(**ask).choices[0].message.content for _ in range(4)}) > 1


def test_stop_strings_end_the_answer_and_are_not_in_it(client):
    ask = dict(model="smollm2", messages=PARIS, temperature=0, max_tokens=30)
    whole = client.chat.completions.create(**ask).choices[0].message.content
    for stop in ("Paris", [" is Paris", "zzz"]):
        r = client.chat.completions.create(**ask, stop=stop)
        assert r.choices[0].message.content == whole.split(stop if isinstance(stop, str) else stop[0])[0]
        assert r.choices[0].finish_reason == "stop"
    text = "".join(c.choices[0].delta.content or "" for c in client.chat.completions.create(**ask, stop="Paris", stream=True))
    assert text == whole.split("Paris")[0]


def test_max_tokens_is_a_limit(client):
    for field in ("max_tokens", "max_completion_tokens"):
        r = client.chat.completions.create(model="smollm2", messages=PARIS, temperature=0, **{field: 3})
        assert r.choices[0].finish_reason == "length" and r.usage.completion_tokens == 3


def test_chat_log_probabilities(client):
    ask = dict(model="smollm2", messages=PARIS, temperature=0, max_tokens=6, logprobs=True, top_logprobs=3)
    r = client.chat.completions.create(**ask)
    content = r.choices[0].logprobs.content
    assert len(content) == 6 and "".join(t.token for t in content) == r.choices[0].message.content
    for t in content:
        assert t.logprob <= 0 and bytes(t.bytes).decode() == t.token and len(t.top_logprobs) == 3
        assert t.top_logprobs[0].token == t.token and t.top_logprobs[0].logprob == t.logprob       # greedy takes the likeliest
        assert sorted((x.logprob for x in t.top_logprobs), reverse=True) == [x.logprob for x in t.top_logprobs]
    streamed = [t for c in client.chat.completions.create(**ask, stream=True) if c.choices[0].logprobs for t in c.choices[0].logprobs.content]
    assert streamed == content
    assert client.chat.completions.create(model="smollm2", messages=PARIS, max_tokens=1).choices[0].logprobs is None


def test_text_parts_and_developer_role(client):
    parts = [{"role": "user", "content": [{"type": "text", "text": "What is the capital"}, {"type": "text", "text": "of France?"}]}]
    plain = [{"role": "user", "content": "What is the capital\nof France?"}]
    ask = dict(model="smollm2", temperature=0, max_tokens=12)
    assert client.chat.completions.create(messages=parts, **ask).choices == client.chat.completions.create(messages=plain, **ask).choices
    told = [client.chat.completions.create(messages=[{"role": role, "content": "Answer in one word."}] + plain, **ask).usage.prompt_tokens
            for role in ("system", "developer")]
    assert told[0] == told[1]


def test_reasoning_is_kept_apart_from_the_answer(start, tmp_path):
    from conftest import TINY
    source = b"{% for m in messages %}{{ m['content'] }}{% endfor %}{{ '<think>' }}{% if enable_thinking is false %}{{ '</think>' }}{% endif %}"
    data = TINY.read_bytes()
    at = data.index(b"{% for m in messages %}")
    length = int.from_bytes(data[at - 8:at], "little")                 # another template of the same length
    (tmp_path / "thinks.gguf").write_bytes(data[:at] + source + b"{#" + b"-" * (length - len(source) - 4) + b"#}" + data[at + length:])
    c = start("--model", tmp_path / "thinks.gguf").client()
    model = c.models.list().data[0].id
    ask = dict(model=model, messages=PARIS, max_tokens=30, temperature=0)
    thinks = c.chat.completions.create(**ask, extra_body={"ignore_eos": True}).choices[0].message
    assert thinks.reasoning_content and thinks.content == ""
    chunks = [x.choices[0].delta for x in c.chat.completions.create(**ask, stream=True, extra_body={"ignore_eos": True})]
    assert "".join(getattr(d, "reasoning_content", None) or "" for d in chunks) == thinks.reasoning_content
    assert "".join(d.content or "" for d in chunks) == ""
    straight = c.chat.completions.create(**ask, extra_body={"ignore_eos": True, "chat_template_kwargs": {"enable_thinking": False}}).choices[0].message
    assert straight.content and not hasattr(straight, "reasoning_content")


def test_thinking_cannot_be_asked_of_a_model_that_does_not(client):
    with pytest.raises(openai.BadRequestError) as e:
        client.chat.completions.create(model="tiny", messages=PARIS, extra_body={"chat_template_kwargs": {"enable_thinking": True}})
    assert e.value.param == "chat_template_kwargs"
    client.chat.completions.create(model="tiny", messages=PARIS, max_tokens=1, extra_body={"chat_template_kwargs": {"enable_thinking": False}})


# ---- /v1/completions ----

def test_prompts_in_four_forms_agree(client, server):
    text = "The capital of France is"
    ask = dict(model="smollm2", temperature=0, max_tokens=5)
    one = client.completions.create(prompt=text, **ask)
    assert one.object == "text_completion" and one.id.startswith("cmpl-") and "Paris" in one.choices[0].text
    ids = json.loads(server.command("tokenize", "smollm2", text, "--ids", "--json"))
    ids = ids["ids"] if isinstance(ids, dict) else ids
    ids = [t["id"] if isinstance(t, dict) else t for t in ids]
    assert client.completions.create(prompt=ids, **ask).choices[0].text == one.choices[0].text
    for prompts in ([text, "Berlin is"], [ids, ids]):
        r = client.completions.create(prompt=prompts, **ask)
        assert [c.index for c in r.choices] == [0, 1] and r.choices[0].text == one.choices[0].text
    two = client.completions.create(prompt=[text, "Berlin is"], n=2, **ask)
    assert [c.index for c in two.choices] == [0, 1, 2, 3] and two.choices[0].text == two.choices[1].text == one.choices[0].text
    assert two.choices[2].text != one.choices[0].text


def test_many_prompts_in_one_request(client):
    prompts = [f"{i} +" for i in range(100)]
    r = client.completions.create(model="tiny", prompt=prompts, max_tokens=3, temperature=0, extra_body={"ignore_eos": True})
    assert [c.index for c in r.choices] == list(range(100)) and r.usage.completion_tokens == 300
    assert r.choices[42].text == client.completions.create(model="tiny", prompt=prompts[42], max_tokens=3, temperature=0,
                                                          extra_body={"ignore_eos": True}).choices[0].text


def test_echo_scores_the_prompt(client):
    text = "The capital of France is Paris"
    r = client.completions.create(model="smollm2", prompt=text, max_tokens=0, echo=True, logprobs=2)
    c, lp = r.choices[0], r.choices[0].logprobs
    assert c.text == text and c.finish_reason == "length" and r.usage.completion_tokens == 0
    assert len(lp.tokens) == len(lp.token_logprobs) == len(lp.top_logprobs) == len(lp.text_offset) == r.usage.prompt_tokens
    assert lp.token_logprobs[0] is None and lp.top_logprobs[0] is None and all(x <= 0 for x in lp.token_logprobs[1:])
    assert all(1 <= len(t) <= 2 for t in lp.top_logprobs[1:])
    assert lp.tokens[-1] == " Paris" and lp.token_logprobs[-1] == max(lp.top_logprobs[-1].values())
    for token, offset in zip(lp.tokens, lp.text_offset):
        assert text[offset:].startswith(token)


def test_echo_with_an_answer_goes_on_from_the_prompt(client):
    ask = dict(model="smollm2", prompt="The capital of France is", max_tokens=4, temperature=0, logprobs=1)
    plain, echo = client.completions.create(**ask), client.completions.create(**ask, echo=True)
    assert echo.choices[0].text == ask["prompt"] + plain.choices[0].text
    assert echo.choices[0].logprobs.tokens[-4:] == plain.choices[0].logprobs.tokens
    assert echo.choices[0].logprobs.token_logprobs[-4:] == plain.choices[0].logprobs.token_logprobs
    chunks = list(client.completions.create(**ask, echo=True, stream=True))
    assert "".join(c.choices[0].text for c in chunks) == echo.choices[0].text
    tokens = [t for c in chunks if c.choices[0].logprobs for t in c.choices[0].logprobs.tokens]
    assert tokens == echo.choices[0].logprobs.tokens


def test_a_completion_stream_is_the_whole_answer(client):
    ask = dict(model="smollm2", prompt=["One, two,", "A, B,"], max_tokens=8, temperature=0)
    whole = client.completions.create(**ask)
    chunks = list(client.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    for i in range(2):
        assert "".join(c.choices[0].text for c in chunks if c.choices and c.choices[0].index == i) == whole.choices[i].text
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens


def test_characters_of_many_bytes_arrive_whole(client):
    r = client.completions.create(model="smollm2", prompt="你好，世界 😀 é", max_tokens=0, echo=True, logprobs=0)
    assert r.choices[0].text == "你好，世界 😀 é"
    assert any(t.startswith("bytes:\\x") for t in r.choices[0].logprobs.tokens)


def test_sampling_fields_have_their_effect(client):
    ask = dict(model="smollm2", messages=PARIS, max_tokens=8)
    greedy = client.chat.completions.create(**ask, temperature=0).choices[0].message.content
    for extra in ({"top_p": 0.0}, {"extra_body": {"top_k": 1}}, {"extra_body": {"min_p": 1.0}}):
        assert client.chat.completions.create(**ask, temperature=1.5, **extra).choices[0].message.content == greedy
    many = dict(model="tiny", prompt="aaa", max_tokens=40, temperature=0, extra_body={"ignore_eos": True})
    plain = client.completions.create(**many).choices[0].text
    assert client.completions.create(**many, frequency_penalty=2, presence_penalty=2).choices[0].text != plain
    biased = client.completions.create(**many, logit_bias={"40": 100})
    assert len(set(biased.choices[0].text)) == 1 and biased.usage.completion_tokens == 40


# ---- errors ----

def body_of(e):
    return e.value.response.json()["error"]


def test_an_unknown_model_is_not_found_and_the_nearest_are_named(client):
    with pytest.raises(openai.NotFoundError) as e:
        client.chat.completions.create(model="smolm2", messages=PARIS)
    assert "smollm2" in body_of(e)["hint"] + body_of(e)["message"] and body_of(e)["param"] == "model"
    with pytest.raises(openai.NotFoundError) as e:
        client.models.retrieve("smolm2")
    assert "smollm2" in body_of(e)["hint"] + body_of(e)["message"]


def test_a_prompt_too_long_says_have_and_need(client):
    with pytest.raises(openai.BadRequestError) as e:
        client.completions.create(model="smollm2", prompt=[5] * 5000)
    err = body_of(e)
    assert err["code"] == "context_length_exceeded" and err["param"] == "prompt" and "4,096" in err["message"].replace("4096", "4,096")
    assert "5,000" in err["message"].replace("5000", "5,000")


def test_a_prompt_may_fill_the_context_when_no_answer_is_asked_for(client):
    full = dict(model="tiny", prompt=[5] * 4096, temperature=0)
    assert client.completions.create(max_tokens=0, **full).usage.prompt_tokens == 4096
    with pytest.raises(openai.BadRequestError) as e:
        client.completions.create(max_tokens=1, **full)
    assert "4,096 tokens, and an answer needs one more" in str(e.value)


def test_a_prompt_that_can_never_fit_is_refused_before_it_is_tokenised(client):
    with pytest.raises(openai.BadRequestError) as e:
        client.chat.completions.create(model="smollm2", messages=[{"role": "user", "content": "word " * 4000000}])
    assert body_of(e)["code"] == "context_length_exceeded" and body_of(e)["param"] == "messages"


def test_bad_values_are_bad_requests_with_param_and_request_id(client):
    with pytest.raises(openai.BadRequestError) as e:
        client.chat.completions.create(model="smollm2", messages=PARIS, temperature=9)
    assert e.value.param == "temperature" and e.value.type == "invalid_request_error"
    assert body_of(e)["request_id"] == e.value.request_id and e.value.request_id.startswith("req_")
    for prompt in ([49152], [-1]):
        with pytest.raises(openai.BadRequestError):
            client.completions.create(model="smollm2", prompt=prompt)
    with pytest.raises(openai.BadRequestError) as e:
        client.completions.create(model="smollm2", prompt="x", logit_bias={"49152": 1})
    assert e.value.param == "logit_bias"
    with pytest.raises(openai.BadRequestError):
        client.completions.create(model="smollm2", prompt="")


def test_models_are_listed(client):
    models = {m.id: m for m in client.models.list()}
    assert set(models) == {"smollm2", "tiny"} and models["smollm2"].object == "model" and models["smollm2"].context_length == 4096
    assert client.models.retrieve("smollm2").id == "smollm2"


def test_a_body_too_large_is_413(server, client):
    with pytest.raises(openai.APIStatusError) as e:
        client.completions.create(model="smollm2", prompt="x" * (33 << 20))
    assert e.value.status_code == 413 and body_of(e)["code"] == "too_large"


def test_a_full_queue_is_a_rate_limit_with_retry_after(start):
    import threading
    from conftest import TINY
    s = start("--model", TINY, "--max-queue", "1", "--max-seqs", "32", "--no-speculation")
    model = s.ps()["models"][0]["name"]
    long = dict(model=model, prompt="a", n=32, max_tokens=4000, stream=True, extra_body={"ignore_eos": True})
    running = s.client().completions.create(**long)                  # takes every place in a step
    s.wait_for(lambda ps: ps["engine"]["active"] == 32)
    waiting = threading.Thread(target=lambda: s.client().completions.create(model=model, prompt="b", max_tokens=1))
    waiting.start()
    s.wait_for(lambda ps: ps["engine"]["queued"] == 1)
    with pytest.raises(openai.RateLimitError) as e:
        s.client().completions.create(model=model, prompt="c", max_tokens=1)
    assert int(e.value.response.headers["retry-after"]) >= 1 and body_of(e)["code"] == "queue_full"
    running.close()
    waiting.join(60)
    assert not waiting.is_alive()


def test_requests_with_keys(start):
    from conftest import TINY
    s = start("--model", TINY)
    model = s.ps()["models"][0]["name"]
    ask = dict(model=model, messages=PARIS, max_tokens=2)
    s.client().chat.completions.create(**ask)                        # no key yet
    secret = next(w for w in s.command("key", "add", "ann").split() if w.startswith("bm-"))
    audit = next(w for w in s.command("key", "add", "bob", "--scope", "audit").split() if w.startswith("bm-"))
    with pytest.raises(openai.AuthenticationError):
        s.client().chat.completions.create(**ask)
    with pytest.raises(openai.AuthenticationError):
        s.client(api_key=secret[:-1] + ("A" if secret[-1] != "A" else "B")).chat.completions.create(**ask)
    with pytest.raises(openai.PermissionDeniedError):
        s.client(api_key=audit).chat.completions.create(**ask)
    s.client(api_key=secret).chat.completions.create(**ask)
    s.key = None
    for path, status in (("/", 200), ("/health", 200), ("/v1/models", 401), ("/v1/ps", 401), ("/nothing", 401)):
        assert s.request("GET", path)[0] == status
    assert s.request("GET", "/v1/models")[1]["www-authenticate"] == "Bearer"
    assert model in s.command("ps")                                  # over the socket, as the owner
    s.command("key", "revoke", "ann")
    with pytest.raises(openai.AuthenticationError):
        s.client(api_key=secret).chat.completions.create(**ask)
    s.stop()
    rows = s.command("usage", "--by", "key")
    assert "ann" in rows
