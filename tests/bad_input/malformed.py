"""What the command lines name, made when it is asked for: sound things of few updates, and malformed ones."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from refusals import Warm
from tiny import STUDENT, TRAINING
from tiny_images import AUTOENCODER, PRIOR, write_folder
from tiny_images import TRAINING as IMAGE_TRAINING

from vqnat_plugin.text.pipeline import TextPipeline

TEACHER = (
    "--task translation --arch transformer --criterion cross_entropy --share-all-embeddings"
    " --encoder-embed-dim 32 --encoder-ffn-embed-dim 64 --encoder-layers 1 --encoder-attention-heads 2"
    " --decoder-embed-dim 32 --decoder-ffn-embed-dim 64 --decoder-layers 1 --decoder-attention-heads 2"
    " --encoder-normalize-before --decoder-normalize-before"
)
Maker = Callable[["Things", Path], object]
MAKERS: dict[str, Maker] = {}


class Things(dict[str, str]):
    """Paths by name; what is asked for the first time is made."""

    def __init__(self, warm: Warm, folder: Path, data: Path) -> None:
        """
        Args:
            warm: runs the commands that make something.
            folder: for all things.
            data: a binarised corpus.
        """
        super().__init__(text=str(data.parent / "text"), twenty="9" * 20)
        self.warm, self.folder, self.corpus = warm, folder, data

    def __missing__(self, name: str) -> str:
        path = self.folder / (name if "." in name else name.replace("_", "."))
        MAKERS[name](self, path)
        self[name] = str(path)
        return self[name]

    def made(self, *words: str) -> None:
        """Let a command make something."""
        ended = self.warm.run(*words, folder=self.folder, seconds=300)
        assert ended.status == 0, ended.err[-3000:]

    def state(self, name: str) -> dict[str, Any]:
        """A checkpoint of a sound model, to spoil."""
        state = torch.load(self[name], weights_only=False)
        assert isinstance(state, dict)
        return state


def thing(maker: Maker) -> Maker:
    """Register what makes the thing of a function's name."""
    MAKERS[maker.__name__] = maker
    return maker


# Sound ones.


@thing
def data(things: Things, path: Path) -> None:
    shutil.copytree(things.corpus, path)
    TextPipeline("en", "de", marks=False).save(path)


def _trained(things: Things, path: Path, words: str) -> None:
    words = words.replace("--user-dir vqnat_plugin", "")
    folder = path.with_name(f"{path.stem}.training")
    things.made("worker", *f"{words} --save-dir {folder}".split())
    shutil.copyfile(folder / "checkpoint_last.pt", path)


@thing
def student_pt(things: Things, path: Path) -> None:
    _trained(things, path, f"{things['data']} {STUDENT} {TRAINING} --max-update 4")


@thing
def teacher_pt(things: Things, path: Path) -> None:
    _trained(things, path, f"{things['data']} {TEACHER} {TRAINING} --max-update 2")


@thing
def autoencoder_pt(things: Things, path: Path) -> None:
    _trained(things, path, f"{things['images']} {AUTOENCODER} {IMAGE_TRAINING} --max-update 5")


@thing
def prior_pt(things: Things, path: Path) -> None:
    words = f"{PRIOR} {IMAGE_TRAINING} --codes-from {things['autoencoder_pt']} --max-update 2"
    _trained(things, path, f"{things['images']} {words}")


@thing
def images(things: Things, path: Path) -> None:
    write_folder(path)


@thing
def codes_npz(things: Things, path: Path) -> None:
    things.made("vqnat", "images", "encode", things["autoencoder_pt"], f"{things['images']}/test", str(path))


@thing
def exported(things: Things, path: Path) -> None:
    things.made("vqnat", "export", things["student_pt"], "--out", str(path), "--precision", "fp32")


# Checkpoints that are none.


@thing
def garbage_pt(things: Things, path: Path) -> None:
    path.write_bytes(bytes(np.random.default_rng(1).integers(0, 256, 3000, np.uint8)))


@thing
def empty_pt(things: Things, path: Path) -> None:
    path.touch()


@thing
def folder_pt(things: Things, path: Path) -> None:
    path.mkdir()


def _cut(source: str, path: Path, share: float = 0.5) -> None:
    content = Path(source).read_bytes()
    path.write_bytes(content[: int(share * len(content))])


for _kind in ("student", "teacher", "autoencoder", "prior"):
    MAKERS[f"cut_{_kind}_pt"] = lambda things, path, kind=_kind: _cut(things[f"{kind}_pt"], path)  # type: ignore[misc]

for _name, _content in {
    "dictionary_pt": {"a": 1},
    "list_pt": [1, 2],
    "tensor_pt": torch.zeros(3),
    "number_pt": 5,
    "nothing_pt": None,
    "weights_pt": {"model": {"a": torch.zeros(2)}},
}.items():
    MAKERS[_name] = lambda things, path, content=_content: torch.save(content, path)  # type: ignore[misc]


def _first(state: dict[str, Any], contains: str = "") -> str:
    return next(
        name for name, value in state["model"].items() if contains in name and value.is_floating_point()
    )


def _without_weight(state: dict[str, Any]) -> None:
    del state["model"][_first(state, "weight")]


def _more_weights(state: dict[str, Any]) -> None:
    state["model"]["more.weight"] = torch.zeros(2)


def _other_shape(state: dict[str, Any]) -> None:
    state["model"][_first(state, "weight")] = torch.zeros(3, 5)


def _nan(state: dict[str, Any], contains: str) -> None:
    name = _first(state, contains)
    state["model"][name] = torch.full_like(state["model"][name], float("nan"))


def _setting(group: str | None, name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def spoil(state: dict[str, Any]) -> None:
        place = state["cfg"] if group is None else state["cfg"][group]
        if isinstance(place, dict):
            place[name] = value
        else:
            setattr(place, name, value)

    return spoil


def _gone(*names: str) -> Callable[[dict[str, Any]], None]:
    def spoil(state: dict[str, Any]) -> None:
        place = state
        for name in names[:-1]:
            place = place[name]
        del place[names[-1]]
        if names == ("cfg",):
            state.pop("args", None)

    return spoil


def _is(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda state: state.update({name: value})


# How the checkpoint of a trained model may be spoilt; things are named SPOILT_KIND_pt.
SPOILT: dict[str, Callable[[dict[str, Any]], None]] = {
    "nocfg": _gone("cfg"),
    "nomodel": _gone("model"),
    "cfgnumber": _is("cfg", 5),
    "cfgtext": _is("cfg", "text"),
    "cfglist": _is("cfg", [1]),
    "cfgempty": _is("cfg", {}),
    "modelnumber": _is("model", 5),
    "modellist": _is("model", [torch.zeros(2)]),
    "modelempty": _is("model", {}),
    "modelnumbers": lambda state: state.update(model=dict.fromkeys(state["model"], 1.0)),
    "notask": _gone("cfg", "task"),
    "nomodelcfg": _gone("cfg", "model"),
    "tasknumber": _setting(None, "task", 5),
    "modelcfglist": _setting(None, "model", [1, 2]),
    "nameless": _setting("model", "_name", 7),
    "otherarch": _setting("model", "_name", "no_such_arch"),
    "othertask": _setting("task", "_name", "no_such_task"),
    "datanumber": _setting("task", "data", 5),
    "datagone": _setting("task", "data", "/no/such/folder"),
    "langnumber": _setting("task", "source_lang", 7),
    "lack": _without_weight,
    "extra": _more_weights,
    "shape": _other_shape,
    "nan": lambda state: _nan(state, "weight"),
    "nancodes": lambda state: _nan(state, "quantizer.codebook"),
    "hugecodes": _setting("model", "codebook_size", 10**12),
    "nocodes": _setting("model", "codebook_size", 0),
    "textcodes": _setting("model", "codebook_size", "many"),
    "negative": _setting("model", "embed_dim", -4),
    "otherwidth": _setting("model", "embed_dim", 64),
    "hugewidth": _setting("model", "encoder_embed_dim", 10**12),
    "hugegrid": _setting("task", "image_size", 10**9),
    "hugelayers": _setting("model", "layers", 10**9),
}


def _spoil(things: Things, path: Path, kind: str, how: str) -> None:
    state = things.state(f"{kind}_pt")
    SPOILT[how](state)
    torch.save(state, path)


for _kind in ("student", "teacher", "autoencoder", "prior"):
    for _how in SPOILT:
        MAKERS[f"{_how}_{_kind}_pt"] = lambda things, path, kind=_kind, how=_how: _spoil(
            things, path, kind, how
        )  # type: ignore[misc]


def _history(things: Things, path: Path, history: Any) -> None:
    state = things.state("student_pt")
    state["optimizer_history"] = history
    torch.save(state, path)


MAKERS["nohistory_pt"] = lambda things, path: _history(things, path, [])
MAKERS["oddhistory_pt"] = lambda things, path: _history(things, path, [{"num_updates": "many"}])
