"""Every field of the official client's request types: carried out, harmless, or refused by name. None is ignored in silence."""
import json
import typing

import openai
import pytest
from openai.types import completion_create_params as text_params
from openai.types.chat import completion_create_params as chat_params
from openai.types import chat as chat_types

MESSAGES = [{"role": "user", "content": "Hi"}]

# Carried out: test_openai.py shows each effect; here, that a value out of range is noticed.
CHAT_USED = {"messages": [], "model": 5, "n": 0, "max_tokens": -1, "max_completion_tokens": 0, "temperature": 3, "top_p": 2,
             "frequency_penalty": 3, "presence_penalty": -3, "logit_bias": {"x": 1}, "seed": "a", "stop": [1], "logprobs": 3,
             "top_logprobs": 21, "stream": "yes", "stream_options": {"include_usage": 1}}
TEXT_USED = {"prompt": [], "model": 5, "n": 0, "max_tokens": -1, "temperature": 3, "top_p": 2, "frequency_penalty": 3,
             "presence_penalty": -3, "logit_bias": {"x": 1}, "seed": "a", "stop": [1], "logprobs": 21, "stream": "yes",
             "stream_options": {"include_usage": 1}, "echo": "yes", "best_of": 3}
# They name or route a request and do not change its answer.
HARMLESS = {"user": "u", "metadata": {"a": "b"}, "safety_identifier": "s", "service_tier": "auto", "prompt_cache_key": "k",
            "prompt_cache_options": {}, "prompt_cache_retention": "24h", "parallel_tool_calls": True}
# A request that means something by the field.
MEANT = {
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}], "tool_choice": "required",
    "functions": [{"name": "f"}], "function_call": {"name": "f"}, "response_format": {"type": "json_object"},
    "audio": {"voice": "alloy", "format": "wav"}, "modalities": ["text", "audio"], "prediction": {"type": "content", "content": "x"},
    "web_search_options": {}, "reasoning_effort": "high", "verbosity": "low", "store": True, "suffix": "end", "moderation": {"model": "x"},
}


def fields(module, stream):
    names = set(typing.get_type_hints(module.CompletionCreateParamsBase))
    return sorted(names | set(typing.get_type_hints(stream)))


CHAT = fields(chat_params, chat_params.CompletionCreateParamsStreaming)
TEXT = fields(text_params, text_params.CompletionCreateParamsStreaming)


def ask(server, path, body):
    status, _, data = server.request("POST", path, body)
    return status, json.loads(data)


def check(server, path, base, used, name):
    if name in used:
        status, answer = ask(server, path, {**base, name: used[name]})
        assert status == 400 and answer["error"]["param"] == name, answer
    elif name in HARMLESS:
        status, answer = ask(server, path, {**base, name: HARMLESS[name]})
        assert status == 200, answer
    else:
        status, answer = ask(server, path, {**base, name: MEANT.get(name, True)})
        assert status == 400 and answer["error"]["param"] == name and answer["error"]["hint"], answer


@pytest.mark.parametrize("name", CHAT)
def test_no_field_of_a_chat_is_ignored_in_silence(server, name):
    check(server, "/v1/chat/completions", {"model": "tiny", "messages": MESSAGES, "max_tokens": 1}, CHAT_USED, name)


@pytest.mark.parametrize("name", TEXT)
def test_no_field_of_a_completion_is_ignored_in_silence(server, name):
    check(server, "/v1/completions", {"model": "tiny", "prompt": "Hi", "max_tokens": 1}, TEXT_USED, name)


def test_what_asks_for_nothing_is_fine(server):
    for extra in ({"tools": []}, {"tool_choice": "none"}, {"response_format": {"type": "text"}}, {"modalities": ["text"]}, {"store": False},
                  {"tools": None}, {"stop": None}, {"function_call": "none"}):
        status, answer = ask(server, "/v1/chat/completions", {"model": "tiny", "messages": MESSAGES, "max_tokens": 1, **extra})
        assert status == 200, answer


MESSAGE_TYPES = [t for n, t in vars(chat_types).items() if n.startswith("ChatCompletion") and n.endswith("MessageParam") and hasattr(t, "__annotations__")]


@pytest.mark.parametrize("kind", MESSAGE_TYPES, ids=lambda t: t.__name__)
def test_no_field_of_a_message_is_ignored_in_silence(server, kind):
    role = kind.__name__[len("ChatCompletion"):-len("MessageParam")].lower()
    meant = {"name": "Ann", "audio": {"id": "a"}, "function_call": {"name": "f", "arguments": "{}"}, "refusal": "no",
             "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}
    for name in typing.get_type_hints(kind):
        if name in ("role", "content", "tool_call_id"):
            continue
        message = {"role": role, "content": "x", name: meant.get(name, True)}
        status, answer = ask(server, "/v1/chat/completions", {"model": "tiny", "messages": [message], "max_tokens": 1})
        assert status == 400 and answer["error"]["param"].startswith("messages[0]."), (name, answer)


PART_TYPES = [t for n, t in vars(chat_types).items() if n.startswith("ChatCompletionContentPart") and n.endswith("Param") and hasattr(t, "__annotations__")]


@pytest.mark.parametrize("kind", PART_TYPES, ids=lambda t: t.__name__)
def test_parts_other_than_text_are_named(server, kind):
    literal = (typing.get_args(typing.get_type_hints(kind).get("type", None)) or ("text",))[0]
    if literal == "text":
        return
    body = {"model": "tiny", "messages": [{"role": "user", "content": [{"type": literal, literal: {"url": "data:,"}}]}]}
    status, answer = ask(server, "/v1/chat/completions", body)
    assert status == 400 and answer["error"]["param"] == "messages[0].content[0].type" and literal in answer["error"]["message"]


def test_the_client_raises_for_a_refused_field(client):
    with pytest.raises(openai.BadRequestError) as e:
        client.chat.completions.create(model="tiny", messages=MESSAGES, tools=MEANT["tools"])
    assert e.value.param == "tools" and e.value.code == "unsupported"
