"""Builds shim.c with the sources it needs into a temporary library and calls it."""
import ctypes
import glob
import os
import subprocess
import tempfile

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../.."))


def load():
    out = os.path.join(tempfile.mkdtemp(), "shim.so")
    sources = [f for d in ("base", "format", "text", "compute/quant*") for f in glob.glob(f"{ROOT}/src/{d}" + ("/*.c" if "*" not in d else ""))]
    sources = [f for f in sources if not os.path.basename(f).startswith(("template", "jinja"))]
    subprocess.run(["gcc", "-O2", "-std=gnu11", "-shared", "-fPIC", "-I", f"{ROOT}/src", "-o", out,
                    os.path.join(os.path.dirname(os.path.abspath(__file__)), "shim.c"), *sources, "-lcrypto", "-lm"], check=True)
    lib = ctypes.CDLL(out)
    lib.shim_pretok_name.restype = lib.shim_pretok_shape.restype = ctypes.c_char_p
    for name in ("shim_split", "shim_encode", "shim_decode"):
        getattr(lib, name).restype = ctypes.c_long
    return lib


def pretok_rows(lib):
    i = 0
    while (name := lib.shim_pretok_name(ctypes.c_size_t(i))) is not None:
        yield name.decode(), lib.shim_pretok_shape(ctypes.c_size_t(i)).decode()
        i += 1


def split(lib, name, text):
    """Ends of the words of valid UTF-8 bytes."""
    ends = (ctypes.c_uint64 * (len(text) + 1))()
    n = lib.shim_split(name.encode(), text, ctypes.c_size_t(len(text)), ends)
    assert n >= 0, name
    return list(ends[:n])
