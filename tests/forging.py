"""Checkpoints as an attacker writes them: pickles put together by hand, in both formats of torch."""

import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

from vqnat_plugin.safe_loading import MAGIC, VERSION


def raw(value: Any) -> bytes:
    """The instructions that leave a plain value on the stack."""
    return pickle.dumps(value, protocol=2)[2:-1]


def named(name: str) -> bytes:
    """The instruction that looks up a class or a function."""
    module, _, last = name.rpartition(".")
    return f"c{module}\n{last}\n".encode()


def together(*values: bytes) -> bytes:
    """A tuple."""
    return b"(" + b"".join(values) + b"t"


def call(name: str, *arguments: bytes, instruction: bytes = b"R") -> bytes:
    """A call; b"\\x81" instead makes an object of a class."""
    return named(name) + together(*arguments) + instruction


def storage(count: int, key: str = "0", kind: str = "torch.FloatStorage", *more: Any) -> bytes:
    """A reference to a storage; the older format has one more value, None."""
    parts = [raw("storage"), named(kind), raw(key), raw("cpu"), raw(count), *map(raw, more)]
    return together(*parts) + b"Q"


def tensor(stored: bytes, size: Any, stride: Any, offset: int = 0) -> bytes:
    """A tensor that is a view of a storage."""
    arguments = [stored, raw(offset), raw(size), raw(stride), raw(False), call("collections.OrderedDict")]
    return call("torch._utils._rebuild_tensor_v2", *arguments)


def nested(value: bytes) -> bytes:
    """A value in an OrderedDict in a dictionary."""
    inner = call("collections.OrderedDict") + raw("weight") + value + b"s"
    return b"}" + raw("model") + inner + b"s"


def write_archive(
    path: Path, content: bytes, compression: int = zipfile.ZIP_STORED, **storages: bytes
) -> Path:
    """torch's format of today, with storages by their keys, each behind an underscore."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("forged/data.pkl", b"\x80\x02" + content + b".")
        archive.writestr("forged/byteorder", b"little")
        archive.writestr("forged/version", b"3")
        for key, data in storages.items():
            archive.writestr(f"forged/data/{key.removeprefix('_')}", data)
    return path


def write_stream(path: Path, content: bytes, **storages: bytes) -> Path:
    """torch's format before 1.6."""
    keys = [key.removeprefix("_") for key in storages]
    heads = [pickle.dumps(each, protocol=2) for each in (MAGIC, VERSION, {"little_endian": True})]
    tails = [struct.pack("<q", len(data) // 4) + data for data in storages.values()]
    parts = [*heads, b"\x80\x02" + content + b".", pickle.dumps(keys, protocol=2), *tails]
    path.write_bytes(b"".join(parts))
    return path
