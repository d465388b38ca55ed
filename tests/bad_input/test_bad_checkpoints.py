"""Files that are no checkpoints, or checkpoints of something else, wherever a checkpoint is read."""

from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from malformed import SPOILT, Things
from refusals import Warm, assert_refused

DECODING = "--task translation_vq --cpu --max-tokens 100 --required-batch-size-multiple 1"
WORKER = (
    "worker {data} --task translation_vq --arch vq_nat_em_tiny --criterion vq_nat_loss --optimizer adam"
    " --lr 1 --max-tokens 100 --cpu --num-workers 0 --save-dir out --max-update 1 --embed-dim 32 --ffn-dim 64"
    " --attention-heads 2 --encoder-layers 1 --predictor-layers 1 --decoder-layers 1 --codebook-size 16"
)
IMAGES = (
    "worker {images} --task image_vq --arch vq_image_prior_tiny --criterion vq_vae_loss --image-size 8"
    " --valid-size 8 --optimizer adam --lr 1 --batch-size 10 --cpu --num-workers 0 --save-dir out"
    " --max-update 1"
)
# What reads a checkpoint, in the place of CHECKPOINT; by the kind that it needs.
READERS = {
    "student": (
        "vqnat latents CHECKPOINT --cpu --out out.json",
        "vqnat diagnose CHECKPOINT --cpu --out out",
        "vqnat inspect CHECKPOINT --cpu --out out",
        "vqnat export CHECKPOINT --out out",
        "vqnat generate --path CHECKPOINT --input {text}/test.en --output out.txt --cpu",
        "vqnat generate {data} --path CHECKPOINT --cpu",
        "vqnat benchmark {data} --out out --cpu --system s CHECKPOINT",
        "vqnat compare {data} --out out --cpu --ref {text}/test.de --system s CHECKPOINT",
        "fairseq-generate {data} --path CHECKPOINT " + DECODING,
        "fairseq-interactive {data} --path CHECKPOINT -s en -t de " + DECODING,
        "fairseq-validate {data} --path CHECKPOINT " + DECODING,
        WORKER + " --restore-file CHECKPOINT",
        WORKER + " --finetune-from-model CHECKPOINT",
    ),
    "teacher": (
        "vqnat distill --data {data} --teacher CHECKPOINT --out out --cpu",
        WORKER + " --init-from-teacher CHECKPOINT",
        "vqnat diagnose {student_pt} --teacher CHECKPOINT --cpu --out out",
        "vqnat export {student_pt} --with-teacher CHECKPOINT --out out",
        "vqnat benchmark --convert CHECKPOINT --out out",
        "vqnat benchmark {data} --out out --cpu --system s {student_pt} beam=2 rescore_with=CHECKPOINT",
        "vqnat generate {data} --path {student_pt} --rescore-with CHECKPOINT --cpu",
        "fairseq-generate {data} --path {student_pt} --rescore-with CHECKPOINT " + DECODING,
    ),
    "autoencoder": (
        "vqnat images evaluate CHECKPOINT --data {images} --valid-size 8 --out out --cpu",
        "vqnat images encode CHECKPOINT {images}/test out.npz --cpu",
        "vqnat images decode CHECKPOINT {codes_npz} out --cpu",
        IMAGES + " --codes-from CHECKPOINT",
    ),
    "prior": (
        "vqnat images evaluate {autoencoder_pt} --prior CHECKPOINT --data {images} --valid-size 8 --out out"
        " --cpu",
    ),
}
AVERAGE = "vqnat average --inputs CHECKPOINT --output out.pt"
READERS["any"] = (AVERAGE,)

# What is as good as what a reader needs: by what the reader ends in or begins with.
GOOD = {
    # Any model that translates.
    "vqnat generate": ("teacher",),
    "--system s CHECKPOINT": ("teacher",),
    "vqnat distill": ("student",),
    # fairseq's commands go by --task, or by the checkpoint, and by the folder that they are given.
    "fairseq-generate": ("othertask_student",),
    "fairseq-interactive": ("othertask_student",),
    "fairseq-validate": ("teacher", "autoencoder", "prior", "datanumber_student"),
    # Of a teacher's weights, those that have a place.
    "--init-from-teacher CHECKPOINT": ("extra_teacher", "hugewidth_teacher"),
}
FOREIGN = (
    "garbage", "empty", "folder", "missing", "dictionary", "list", "tensor", "number", "nothing", "weights",
)  # fmt: skip
OTHERS = {
    "student": ("teacher", "autoencoder", "prior"),
    "teacher": ("student", "autoencoder", "prior"),
    "autoencoder": ("student", "teacher", "prior"),
    "prior": ("student", "teacher", "autoencoder"),
    "any": (),
}
# What only some models have, or what no reader looks at who is told another folder.
ELSEWHERE = {
    "student": {"datagone", "hugewidth", "hugegrid", "hugelayers"},
    "teacher": {"datagone", "nancodes", "hugecodes", "nocodes", "textcodes", "negative", "otherwidth",
                "hugegrid", "hugelayers"},
    "autoencoder": {"datagone", "langnumber", "negative", "otherwidth", "hugewidth", "hugelayers"},
    "prior": {"datagone", "langnumber", "nancodes", "hugecodes", "nocodes", "textcodes", "hugewidth",
              "hugegrid"},
    # An average is of the weights alone.
    "any": {"datagone", "otherarch", "othertask", "lack", "extra", "shape", "hugecodes", "nocodes",
            "textcodes", "negative", "otherwidth", "hugewidth", "hugegrid", "hugelayers"},
}  # fmt: skip


def _ways(kind: str) -> list[str]:
    """Names of things that no reader of a kind of checkpoint takes."""
    spoilt = [how for how in SPOILT if how not in ELSEWHERE.get(kind, ())]
    model = "student" if kind == "any" else kind
    return [*FOREIGN, *OTHERS[kind], f"cut_{model}", *(f"{how}_{model}" for how in spoilt)]


def _cases() -> list[Any]:
    """Each reader with each way; by default some of the ways, each reader with one at least."""
    found = []
    for kind, readers in READERS.items():
        ways = _ways(kind)
        pairs = [(reader, way) for reader in readers for way in ways if not _is_good(reader, way)]
        default = set()
        for number, reader in zip(range(max(len(readers), len(ways) // 4)), cycle(readers), strict=False):
            own = [pair for pair in pairs if pair[0] == reader]
            default.add(own[7 * number % len(own)])
        found += [pytest.param(*pair, marks=() if pair in default else pytest.mark.slow) for pair in pairs]
    return found


def _is_good(reader: str, way: str) -> bool:
    return any((reader.startswith(end) or reader.endswith(end)) and way in ways for end, ways in GOOD.items())


@pytest.mark.parametrize(("reader", "way"), _cases())
def test_it_is_refused(reader: str, way: str, warm: Warm, tmp_path: Path, things: Things) -> None:
    path = str(tmp_path / "missing.pt") if way == "missing" else things[f"{way}_pt"]
    assert_refused(warm, tmp_path, reader.replace("CHECKPOINT", path), path, things)
