"""What torch.save writes, read as data: the same as torch reads, and nothing of what may be forged."""

import argparse
import collections
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forging import call, named, nested, raw, storage, tensor, together, write_archive, write_stream

from vqnat_plugin.plain_pickle import FOR_TORCH, MAKERS, STORAGES
from vqnat_plugin.safe_loading import load, without_weights

FOUR = np.arange(4, dtype=np.float32).tobytes()


def read(path: Path) -> Any:
    with path.open("rb") as file:
        return load(file)


def save(content: Any, path: Path, zipped: bool) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


both_formats = pytest.mark.parametrize("zipped", [True, False])


@both_formats
def test_it_reads_what_torch_reads(tmp_path: Path, zipped: bool) -> None:
    kinds = list(STORAGES.values())
    weight = torch.arange(12.0).view(3, 4)
    model = torch.nn.Linear(2, 2).state_dict()
    content = {
        "kinds": [torch.tensor([0, 1, 1]).to(kind) for kind in kinds],
        "views": (weight, weight.t(), weight[1:, ::2], torch.empty(0, 5), torch.tensor(3.5)),
        "model": model,
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "plain": [
            None,
            True,
            False,
            -1,
            300,
            70000,
            2**40,
            -(2**70),
            1e-300,
            "é\ud800",
            (),
            (1,),
            {},
            {3: []},
        ],
    }
    path = save(content, tmp_path / "a.pt", zipped)
    mine, torchs = read(path), torch.load(path, weights_only=True)
    for one, other in zip(
        mine["kinds"] + list(mine["views"]), torchs["kinds"] + list(torchs["views"]), strict=True
    ):
        assert torch.equal(one, other) and one.dtype == other.dtype and one.stride() == other.stride()
    assert mine["model"].keys() == model.keys() and mine["model"]._metadata == model._metadata
    assert isinstance(mine["parameter"], torch.nn.Parameter) and mine["parameter"].requires_grad
    assert mine["plain"] == torchs["plain"] == content["plain"]


@both_formats
def test_tied_weights_stay_tied_and_can_be_saved_again(tmp_path: Path, zipped: bool) -> None:
    weight = torch.arange(6.0)
    tied = read(save([weight, weight[2:]], tmp_path / "a.pt", zipped))
    tied[0][3] = 7
    assert tied[1].tolist() == [2, 7, 4, 5]
    again = read(save(tied, tmp_path / "b.pt", zipped))
    assert again[0].tolist() == [0, 1, 2, 7, 4, 5] and again[0].data_ptr() + 8 == again[1].data_ptr()


@both_formats
def test_numbers_of_numpy(tmp_path: Path, zipped: bool) -> None:
    content = collections.OrderedDict(
        counts=np.array([1, 2]), matrix=np.asfortranarray(np.ones((2, 3), np.float32)), flag=np.bool_(True),
        numbers=[np.dtype(kind).type(1) for kind in ("f2", "f4", "f8", "i1", "i8", "u1", "u8")],
    )  # fmt: skip
    found = read(save(content, tmp_path / "a.pt", zipped))
    assert found["counts"].tolist() == [1, 2] and type(found["counts"]) is np.ndarray
    assert found["matrix"].shape == (2, 3) and found["matrix"].flags.f_contiguous
    assert found["flag"] is np.bool_(True)
    assert [type(each) for each in found["numbers"]] == [type(each) for each in content["numbers"]]


@both_formats
def test_without_weights_only_shapes_are_read(tmp_path: Path, zipped: bool) -> None:
    path = save({"weight": torch.ones(2, 3, dtype=torch.float16), "name": "a"}, tmp_path / "a.pt", zipped)
    with without_weights():
        found = read(path)
    assert found["name"] == "a" and found["weight"].shape == (2, 3) and found["weight"].dtype == torch.float16
    assert found["weight"].is_meta and not read(path)["weight"].is_meta


# Forgeries.


def calls() -> Iterator[tuple[str, bytes]]:
    """Every name that is known, called and instantiated in ways that do harm elsewhere."""
    numbers = call("numpy.dtype", raw("f8"))
    objects = [
        (),
        (raw(10**12),),
        (raw((10**12,)),),
        (raw((1,)), raw("O"), call("_codecs.encode", raw("\1" * 8), raw("latin1"))),
        (named("numpy.ndarray"), raw((10**9,)), raw("O")),
        (numbers, raw(b"")),
        (storage(4), raw(0), raw((-1,)), raw((-1,)), raw(False), raw(None)),
        (raw("os.system"), raw("idna")),
        (raw("O8"), raw(False), raw(True)),
    ]  # fmt: skip
    harmless = {"collections.OrderedDict", "argparse.Namespace"}
    for name in (*MAKERS, *STORAGES, "numpy.ndarray"):
        for instruction in (b"R", b"\x81"):
            for number, arguments in enumerate(objects):
                if (arguments or name not in harmless) and not ("reconstruct" in name and number == 4):
                    yield f"{name} {instruction!r} {number}", call(name, *arguments, instruction=instruction)


def states() -> Iterator[tuple[str, bytes]]:
    """Attributes set of everything that can be made."""
    array = call("numpy.core.multiarray._reconstruct", named("numpy.ndarray"), raw((0,)), raw(b"b"))
    numbers = call("numpy.dtype", raw("f8"))
    eight = call("_codecs.encode", raw("\1" * 8), raw("latin1"))

    def shaped(shape: Any, kind: bytes, data: bytes = eight) -> bytes:
        return together(raw(1), raw(shape), kind, raw(False), data)

    yield "object array", array + shaped((1,), call("numpy.dtype", raw("O"))) + b"b"
    yield "array of a named kind", array + shaped((1,), raw("O")) + b"b"
    yield "array without data", array + shaped((10**12,), numbers) + b"b"
    yield "array of negative size", array + shaped((-1, -1), numbers) + b"b"
    yield "array of a list", array + shaped((1,), numbers, raw([1.0])) + b"b"
    yield "kind of another machine", numbers + raw((3, ">", None, None, None, -1, -1, 0)) + b"b"
    yield (
        "tensor set anew",
        tensor(storage(4), (1,), (1,)) + together(storage(4), raw(0), raw((10**9,)), raw((1,))) + b"b",
    )
    yield "dictionary without methods", call("collections.OrderedDict") + raw({"items": 1}) + b"b"
    yield "options without methods", call("argparse.Namespace") + raw({"_get_kwargs": 1}) + b"b"
    yield "options of another class", call("argparse.Namespace") + raw({"__class__": 1}) + b"b"
    yield "list", raw([1]) + raw({"append": 1}) + b"b"
    yield "function", named("_codecs.encode") + raw({"__code__": 1}) + b"b"


def values() -> Iterator[tuple[str, bytes]]:
    """Sizes that cannot be, and structures that end a process or keep it busy."""
    yield "storage of terabytes", tensor(storage(10**12), (1,), (1,))
    yield "storage of a negative size", tensor(storage(-1), (1,), (1,))
    yield "storage of two sizes", together(storage(4), storage(2))
    yield "storage that is not there", tensor(storage(4, "1"), (4,), (1,))
    yield "storage of no kind", tensor(storage(4, "0", "numpy.ndarray"), (4,), (1,))
    yield "larger than its storage", tensor(storage(4), (5,), (1,))
    yield "outside its storage", tensor(storage(4), (4,), (1,), 1)
    yield "far steps", tensor(storage(4), (2,), (2**62,))
    yield "steps back", tensor(storage(4), (2,), (-1,), 1)
    yield "repeated for ever", tensor(storage(4), (2**40,), (0,))
    yield "sizes and steps", tensor(storage(4), (2, 2), (1,))
    yield "no numbers", tensor(storage(4), (2.0,), (1,))
    yield (
        "meta",
        call("torch._utils._rebuild_meta_tensor_no_storage", raw(1), raw((10**12,)), raw((1,)), raw(False)),
    )
    yield "bytes", call("__builtin__.bytearray", raw(10**12))
    yield "tensor of terabytes", call("torch.FloatTensor", raw(10**12))
    yield "sparse", call("torch._utils._rebuild_sparse_tensor", raw(None), raw(()))
    yield "key that cannot be found", b"}" + b")" + b"\x85" * 100_000 + raw(1) + b"s"
    yield "key of a tuple", b"}" + raw((1,)) + raw(1) + b"s"
    yield "in itself", b"]q\x00h\x00a"
    bomb = raw([0] * 10) + b"q\x00"
    for number in range(12):
        bomb += b"](" + b"h%c" % number * 10 + b"eq%c" % (number + 1)
    yield "bomb", bomb
    yield "below the stack", b"0" * 5
    yield "text longer than the file", b"X\xff\xff\xff\xffa"
    yield "later instruction", b"\x8f"


FORGERIES = {**dict(calls()), **dict(states()), **dict(values())}
# Reads all files of a folder; one that brings the process down is the last in what it wrote.
READER = """
import resource, sys
from pathlib import Path
import torch
from vqnat_plugin import plain_pickle
from vqnat_plugin.safe_loading import load
# What takes long is seen sooner.
plain_pickle.MOST_VALUES //= 100
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (1 << 30),) * 2)
for path in sorted(Path(sys.argv[1]).iterdir()):
    print(path.name, end=": ", flush=True)
    try:
        with path.open("rb") as file:
            load(file)
        print("read", flush=True)
    except Exception as error:
        print(type(error).__name__, repr(str(error)), flush=True)
"""
REFUSALS = (
    "UnpicklingError", "ForeignName", "TypeError", "ValueError", "KeyError", "AttributeError", "IndexError"
)  # fmt: skip


def test_forgeries_are_refused_in_either_format(tmp_path: Path) -> None:
    """In a process of its own, which may take little memory: a forgery that works may end it."""
    written = {}
    for number, (name, content) in enumerate(FORGERIES.items()):
        for wrapped in (False, True):
            value = nested(content) if wrapped else content
            archive, stream = (tmp_path / f"{number:04d}-{wrapped}-{kind}" for kind in ("zip", "old"))
            write_archive(archive, value, _0=FOUR)
            # The older format has one value more in its references.
            write_stream(stream, value.replace(b"tQ", b"NtQ"), _0=FOUR)
            written |= {archive.name: name, stream.name: name}
    done = subprocess.run([sys.executable, "-c", READER, str(tmp_path)], capture_output=True, text=True)
    outcomes = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert done.returncode == 0, (written[list(outcomes)[-1]], done.stderr[-2000:])
    odd = {written[file]: each for file, each in outcomes.items() if not each.startswith(REFUSALS)}
    assert outcomes.keys() == written.keys() and odd == {}


def test_torchs_own_loader_makes_nothing_else_of_them(tmp_path: Path) -> None:
    """As above, for those names that we let it call."""
    arrays = {name: each for name, each in FORGERIES.items() if name.startswith(("numpy", "array", "object"))}
    # An empty array.
    del arrays["numpy.ndarray b'R' 0"], arrays["numpy.ndarray b'\\x81' 0"]
    for number, content in enumerate(arrays.values()):
        write_archive(tmp_path / f"{number:04d}", nested(content), _0=FOUR)
        write_stream(tmp_path / f"{number:04d}-old", content.replace(b"tQ", b"NtQ"), _0=FOUR)
    allow = "torch.serialization.add_safe_globals(plain_pickle.FOR_TORCH)\nfor path in"
    reader = READER.replace("load(file)", "torch.load(file, weights_only=True)").replace("for path in", allow)
    done = subprocess.run([sys.executable, "-c", reader, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout.splitlines()[-1:], done.stderr[-2000:])
    outcomes = [line.split(": ", 1) for line in done.stdout.splitlines()]
    assert len(outcomes) == 2 * len(arrays)
    odd = {list(arrays)[int(file[:4])]: each for file, each in outcomes if not each.startswith(REFUSALS)}
    assert odd == {}


@both_formats
def test_torchs_own_loader_reads_numbers_of_numpy(tmp_path: Path, zipped: bool) -> None:
    content = {
        "matrix": np.asfortranarray(np.ones((2, 3), np.float32)),
        "one": np.float64(1.5),
        "args": argparse.Namespace(a=1),
    }
    # For good, as `compat` does: torch's own context would take away what that has added.
    torch.serialization.add_safe_globals(FOR_TORCH)
    found = torch.load(save(content, tmp_path / "a.pt", zipped))
    assert found["one"] == 1.5 and found["args"].a == 1
    assert found["matrix"].tolist() == [[1.0] * 3] * 2 and found["matrix"].dtype == np.float32
    again = read(save(found, tmp_path / "b.pt", zipped))
    assert type(again["matrix"]) is np.ndarray and again["matrix"].tolist() == found["matrix"].tolist()


def test_records_that_are_compressed(tmp_path: Path) -> None:
    bomb = write_archive(
        tmp_path / "a", tensor(storage(1 << 20), (1,), (1,)), zipfile.ZIP_DEFLATED, _0=bytes(4 << 20)
    )
    assert bomb.stat().st_size < 10_000
    with pytest.raises(Exception, match="compressed, or larger than the file"):
        read(bomb)


@pytest.mark.parametrize("write", [write_archive, write_stream])
def test_storage_of_another_size_than_what_is_stored(tmp_path: Path, write: Callable[..., Path]) -> None:
    for count, kept in ((4, 3), (3, 4)):
        content = tensor(storage(count), (count,), (1,))
        content = content if write is write_archive else content.replace(b"tQ", b"NtQ")
        path = write(tmp_path / "a", content, _0=FOUR[: 4 * kept])
        if write is write_archive or kept < count:
            with pytest.raises(Exception, match=r"of another size than its record|ends inside"):
                read(path)
        else:
            # A stream says nowhere how much there is.
            assert read(path).tolist() == torch.frombuffer(bytearray(FOUR), dtype=torch.float32)[:3].tolist()


def test_options_are_plain(tmp_path: Path) -> None:
    found = read(save({"args": argparse.Namespace(lr=[0.1], task="a")}, tmp_path / "a.pt", True))
    assert found["args"] == argparse.Namespace(lr=[0.1], task="a")
