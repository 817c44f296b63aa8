#!/usr/bin/env python3
"""Compare with jinja2 over published templates: every *.jinja of a directory with each conversation below.

usage: python real_templates.py DIR [PROGRAM [N]]      needs jinja2 3.1.6 and transformers; DIR e.g. llama.cpp's models/templates
PROGRAM is build/tests/text/test_template_oracle; N: as many random conversations more for each template. Prints the cases that differ and how many there are.
"""
import copy, json, os, pathlib, random, subprocess, sys, tempfile

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


TEXTS = ["", "Hi", " a\nb ", "<think>\nr\n</think>\n\nanswer", "x</think>y", "é🎉", "{\"a\": 1}", "[THINK]t[/THINK]z", "<tool_call>{}</tool_call>", "\n", "/no_think", "a/think", "<|channel|>final<|message|>x"]
R = random.Random(7)


def any_json(d=3):
    return R.choice([lambda: R.choice(TEXTS), lambda: R.choice([None, True, False, 0, -1, 7, 2.5, 1e-7, 1e22]),
                     lambda: [any_json(d - 1) for _ in range(R.randrange(3))] if d else [],
                     lambda: {R.choice(["a", "type", "text", "name", "items", "B", "é"]): any_json(d - 1) for _ in range(R.randrange(3))} if d else {}])()


def any_parts():
    return [R.choice([{"type": "text", "text": R.choice(TEXTS)}, {"type": "image"}, {"type": "image_url", "image_url": {"url": "u"}}, {"type": "video"}, {"type": "audio"},
                      R.choice(TEXTS), {"text": "no type"}]) for _ in range(R.randrange(3))]


def any_message(role):
    m = {"role": role}
    if R.random() < 0.95:
        m["content"] = R.choice([R.choice(TEXTS), R.choice(TEXTS), R.choice(TEXTS), None, any_parts(), any_json()]) if R.random() < 0.6 else R.choice(TEXTS)
    if role == "assistant":
        if R.random() < 0.4:
            m["tool_calls"] = [R.choice([CALL, CALL2, CALL_TEXT, {"id": "call00009", "type": "function", "function": {"name": "get_weather", "arguments": any_json()}},
                                         {"name": "noop", "arguments": {"a": 1}}]) for _ in range(R.randrange(3))]
        for key in ("reasoning_content", "thinking", "reasoning", "prefix", "weight", "tool_plan", "end_turn", "think"):
            if R.random() < 0.15:
                m[key] = R.choice(TEXTS + [None, True, 0])
    if role == "tool":
        m.update({k: v for k, v in (("tool_call_id", R.choice(["call00001", "call00002", "x"])), ("name", R.choice(["get_weather", "noop"])), ("tool_name", "noop")) if R.random() < 0.7})
    return m


def random_cases(path, n):
    for i in range(n):
        roles = [] if R.random() < 0.5 else [R.choice(["system", "developer"])]
        for _ in range(R.randrange(1, 5)):
            roles += R.choice([["user"], ["user", "assistant"], ["user", "assistant"], ["user", "assistant", "tool", "assistant"], ["user", "assistant", "tool", "tool"], ["assistant"], ["tool"], ["system"]])
        case = {"name": f"{path.name}/random {i}", "template": path.read_bytes().decode(), "messages": [any_message(r) for r in roles], "bos": "<s>", "eos": "</s>", "now": 1738333845,
                "add_generation_prompt": R.random() < 0.7, "vars": {}}
        if R.random() < 0.5:
            case["tools"] = R.choice([TOOLS, TOOLS[:1], [TOOLS[0]["function"]], [{"type": "function", "function": {"name": "f", "description": None, "parameters": any_json()}}], any_json(2)])
        for key, values in (("enable_thinking", [True, False, None]), ("thinking", [True, False]), ("reasoning_effort", ["low", "none", "high", None]), ("thinking_budget", [0, 512, -1]),
                            ("documents", [[], [{"title": "T", "text": "x"}]]), ("add_vision_id", [True]), ("builtin_tools", [["python"], []]), ("model_identity", ["I am."]),
                            ("thinking_mode", ["enabled", "disabled", "auto"]), ("preserve_thinking", [True]), ("response_format", [{"type": "json_object"}]), ("tool_choice", ["auto", "required"])):
            if R.random() < 0.2:
                case["vars"][key] = R.choice(values)
        yield json.loads(json.dumps({k: v for k, v in case.items() if v is not None}))


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
        if len(sys.argv) > 3:
            cases += [render(c) for c in random_cases(path, int(sys.argv[3]))]
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
