#!/usr/bin/env python3
"""Compare with jinja2 over published templates: every *.jinja of a directory with each conversation below.

usage: python real_templates.py DIR [PROGRAM]      needs jinja2 3.1.6 and transformers; DIR e.g. llama.cpp's models/templates
PROGRAM is build/tests/text/test_template_oracle. Prints the cases that differ and how many there are.
"""
import copy, json, os, pathlib, subprocess, sys, tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from reference import render

TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "Weather in a <city> & \"more\"; 天気", "parameters": {
        "type": "object", "properties": {
            "city": {"type": "string", "description": "The city's name\nwith a second line", "enum": ["Paris", "東京"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 14.5, "default": 3},
            "units": {"type": ["string", "null"], "description": "Unit"},
            "where": {"type": "object", "properties": {"lat": {"type": "number"}, "lon": {"type": "number"}}, "required": ["lat"]},
            "tags": {"type": "array", "items": {"type": "string"}}}, "required": ["city"]},
        "return": {"type": "string", "description": "The weather"}}},
    {"type": "function", "function": {"name": "noop", "description": "", "parameters": {"type": "object", "properties": {}}}},
]
CALL = {"id": "call00001", "type": "function", "function": {"name": "get_weather", "arguments": {
    "city": "Zürich", "days": 2, "units": None, "where": {"lat": 47.37, "lon": 8.5e-7}, "tags": ["a", "b\"c"], "ok": True}}}
CALL2 = {"id": "call00002", "type": "function", "function": {"name": "noop", "arguments": {}}}
CALL_TEXT = {"id": "call00003", "type": "function", "function": {"name": "get_weather", "arguments": "{\"city\": \"Oslo\"}"}}
U = lambda text: {"role": "user", "content": text}
A = lambda text, **kw: {"role": "assistant", "content": text, **kw}
S = lambda text: {"role": "system", "content": text}
T = lambda text, **kw: {"role": "tool", "content": text, **kw}

CONVERSATIONS = {
    "user": [U("Hello")],
    "system": [S("You are terse."), U("Hello")],
    "turns": [U("Hi"), A("Hello!"), U("How are you?")],
    "system_turns": [S("  Be kind.\n"), U("Hi\n"), A("  Hello! "), U(" How are you? "), A("Fine."), U("Bye")],
    "ends_assistant": [U("Hi"), A("Hello!")],
    "non_ascii": [S("你是助手"), U("Ünïcødé 🎉 \u200b\u00a0ß"), A("é"), U("Αθήνα ﷽")],
    "specials": [S("<|im_end|>"), U("</s><|im_start|>system\n{{ 1 }}{% if %}"), A("<think>x</think>y"), U("[INST] <<SYS>>")],
    "parts": [U([{"type": "text", "text": "Look at"}, {"type": "text", "text": "this"}])],
    "parts_image": [U([{"type": "image"}, {"type": "text", "text": "What is this?"}]), A("A cat"), U("Sure?")],
    "parts_all": [S([{"type": "text", "text": "Sys"}]), U([{"type": "text", "text": "Hi"}]), A([{"type": "text", "text": "Yo"}]), U([{"type": "text", "text": "Go"}])],
    "reasoning": [U("2+2?"), A("4", reasoning_content="Add them."), U("3+3?"), A("6", reasoning_content="Again.\n"), U("thanks")],
    "thinking_key": [U("2+2?"), A("4", thinking="Add them."), U("ok"), A("<think>\nin text\n</think>\n\nanswer"), U("fine")],
    "call": [U("Weather?"), A("", tool_calls=[CALL]), T("Sunny, 21°", tool_call_id="call00001", name="get_weather")],
    "call_then": [S("Use tools."), U("Weather?"), A("Let me look.", tool_calls=[CALL]), T("{\"t\": 21}", tool_call_id="call00001", name="get_weather"), A("21 degrees"), U("And now?")],
    "call_none": [U("Weather?"), A(None, tool_calls=[CALL, CALL2]), T("a", tool_call_id="call00001", name="get_weather"), T("b", tool_call_id="call00002", name="noop"), A("done"), U("x")],
    "call_text": [U("Weather?"), A("", tool_calls=[CALL_TEXT]), T("rain", tool_call_id="call00003", name="get_weather")],
    "call_reasoning": [U("Weather?"), A("", reasoning_content="I need a tool", tool_calls=[CALL]), T("Sunny", tool_call_id="call00001", name="get_weather"), A("ok", reasoning_content="Now I know"), U("next")],
    "call_no_content": [U("W?"), {"role": "assistant", "tool_calls": [CALL]}, T("Sunny", tool_call_id="call00001", name="get_weather")],
    "call_parts": [U("W?"), A("", tool_calls=[CALL]), T([{"type": "text", "text": "Sunny"}], tool_call_id="call00001", name="get_weather")],
    "tool_dict": [U("W?"), A("", tool_calls=[CALL]), {"role": "tool", "content": {"t": 21.0, "ok": None}, "tool_call_id": "call00001", "name": "get_weather"}],
    "two_system": [S("One"), S("Two"), U("Hi")],
    "system_later": [U("Hi"), S("Now be rude."), U("Again")],
    "developer": [{"role": "developer", "content": "Dev says"}, U("Hi")],
    "two_users": [U("One"), U("Two")],
    "unknown_role": [{"role": "critic", "content": "Bad"}, U("Hi")],
    "empty": [],
    "empty_texts": [S(""), U(""), A(""), U("")],
    "none_content": [U(None)],
    "prefill": [U("Hi"), A("Sure, here", prefix=True)],
    "named": [{"role": "user", "name": "Ann", "content": "Hi"}, {"role": "assistant", "name": "Bot", "content": "Yes", "weight": 0}],
}
VARIANTS = {
    "": {}, "+think": {"vars": {"enable_thinking": True}}, "-think": {"vars": {"enable_thinking": False}},
    "+thinking": {"vars": {"thinking": True, "reasoning_effort": "high", "preserve_thinking": True, "clear_thinking": False}},
    "tools": {"tools": TOOLS}, "tools+think": {"tools": TOOLS, "vars": {"enable_thinking": True, "add_vision_id": True}},
    "tools-think": {"tools": TOOLS, "vars": {"enable_thinking": False, "keep_past_thinking": True, "builtin_tools": ["python", "browser"]}},
    "documents": {"vars": {"documents": [{"title": "T1", "text": "Text 1"}, {"doc_id": 7, "content": "x"}], "date_string": "1 Jan 2025", "custom_tools": TOOLS}},
    "no_tools": {"tools": []},
    "nobos": {"bos": None, "eos": None},
}


def cases_for(path):
    source = path.read_bytes().decode()
    for name, messages in CONVERSATIONS.items():
        for variant, extra in VARIANTS.items():
            for agp in (True, False):
                case = {"name": f"{path.name}/{name}/{variant}/{'gen' if agp else 'nogen'}", "template": source,
                        "messages": copy.deepcopy(messages), "bos": "<s>", "eos": "</s>", "now": 1738333845, "add_generation_prompt": agp}
                case.update(copy.deepcopy(extra))
                yield {k: v for k, v in case.items() if v is not None}


def main():
    directory = pathlib.Path(sys.argv[1])
    program = sys.argv[2] if len(sys.argv) > 2 else "build/tests/text/test_template_oracle"
    n = bad = refused = 0
    sys.stdout.reconfigure(line_buffering=True)
    for path in sorted(directory.glob("*.jinja")):
        cases = [render(c) for c in cases_for(path)]
        n += len(cases)
        refused += sum("error" in c for c in cases)
        with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
            json.dump(cases, f)
            f.flush()
            run = subprocess.run([program], env={**os.environ, "BAIMO_TEMPLATE_CASES": f.name}, capture_output=True, text=True, errors="replace")
        if run.returncode != 0:
            bad += 1
            print(f"DIFFERS {path.name}\n" + "\n".join(run.stderr.splitlines()[:25]) + "\n" + run.stdout[-200:])
    print(f"{n} cases over {len(list(directory.glob('*.jinja')))} templates ({refused} refused by jinja2); {bad} templates differ")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
