"""Builds shim.c with the sources it needs into a temporary library and calls it."""
import ctypes
import glob
import os
import subprocess
import tempfile

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../.."))


def load():
    out = os.path.join(tempfile.mkdtemp(), "shim.so")
    sources = [f for part in ("base/*", "format/gguf*", "format/sniff*", "compute/quant*", "text/tokenizer", "text/vocab*", "text/bpe*", "text/spm*",
                              "text/pretok*", "text/unicode*") for f in glob.glob(f"{ROOT}/src/{part}.c")]
    subprocess.run(["gcc", "-O2", "-std=gnu11", "-ffp-contract=off", "-shared", "-fPIC", "-I", f"{ROOT}/src", "-o", out,
                    os.path.join(os.path.dirname(os.path.abspath(__file__)), "shim.c"), *sources, "-lcrypto", "-lm"], check=True)
    lib = ctypes.CDLL(out)
    lib.shim_pretok_name.restype = lib.shim_pretok_shape.restype = ctypes.c_char_p
    lib.shim_open.restype = ctypes.c_void_p
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


class Tokenizer:
    def __init__(self, lib, path):
        message = ctypes.create_string_buffer(1024)
        self.lib, self.tok = lib, lib.shim_open(str(path).encode(), message)
        if not self.tok:
            raise ValueError(message.value.decode())
        self.tok = ctypes.c_void_p(self.tok)

    def encode(self, text, special=False, parse=False):
        ids = ctypes.POINTER(ctypes.c_int32)()
        n = self.lib.shim_encode(self.tok, text, ctypes.c_size_t(len(text)), int(special), int(parse), ctypes.byref(ids))
        assert n >= 0
        out = ids[:n]
        self.lib.shim_free(ids)
        return out

    def decode(self, ids, special=False):
        text = ctypes.c_void_p()
        n = self.lib.shim_decode(self.tok, (ctypes.c_int32 * max(1, len(ids)))(*ids), ctypes.c_size_t(len(ids)), int(special), ctypes.byref(text))
        assert n >= 0
        out = ctypes.string_at(text, n)
        self.lib.shim_free(text)
        return out
