"""The reference for chat templates: Python's jinja2 set up as transformers does (jinja2 3.1.6, transformers 5.23.0).

render(case) fills case["expected"] (and case["generation"]) or case["error"]. A case has template, and perhaps
messages, tools, vars, bos, eos, now (seconds since 1970, read as wall time), add_generation_prompt.
"""
import datetime
import signal

from transformers.utils import chat_template_utils as ctu


class FixedClock(datetime.datetime):
    fixed = None

    @classmethod
    def now(cls, tz=None):
        return cls.fixed if cls.fixed is not None else super().now(tz)


ctu.datetime = FixedClock


def byte_offset(text, chars):
    return len(text[:chars].encode())


def too_slow(*_):
    raise TimeoutError("the reference takes too long")


def render(case):
    case.pop("expected", None), case.pop("error", None), case.pop("generation", None)
    FixedClock.fixed = None
    if case.get("now"):
        stamp = datetime.datetime.fromtimestamp(case["now"], datetime.timezone.utc)
        FixedClock.fixed = FixedClock(*stamp.timetuple()[:6])
    kwargs = dict(case.get("vars") or {})
    for key in ("bos", "eos"):
        if case.get(key) is not None:
            kwargs.setdefault(key + "_token", case[key])
    signal.signal(signal.SIGALRM, too_slow)
    signal.alarm(20)
    try:
        template = ctu._compile_jinja_template(case["template"])
        text, spans = ctu._render_with_assistant_indices(
            template, case.get("messages", []), case.get("tools"), None if "documents" not in kwargs else kwargs.pop("documents"),
            bool(case.get("add_generation_prompt")), **kwargs)
        text.encode()
        case["expected"] = text
        if spans:
            case["generation"] = [[byte_offset(text, a), byte_offset(text, b)] for a, b in spans]
    except Exception as e:
        case["error"] = f"{type(e).__name__}: {e}"[:200]
    finally:
        signal.alarm(0)
    return case
