#!/usr/bin/env python3
"""What a target word costs in training: the student beside an autoregressive Transformer of the same size.

Both are trained in this process on the same batches, update by update in turn, as a worker of `vqnat train`
does it on a CPU. Times are medians after warm-up, by parts of an update: those of the forward pass,
`backward` for all of them, `optimizer` with the clipping of gradients, `data` for the making of a batch, and
`rest`. The M step counts for the bottleneck.
Nothing else should run on the machine.

  scripts/training_cost.py runs/data/bin --size small
  scripts/training_cost.py runs/data/bin --size small --json cost.json --student --predictor-layers 1
"""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from vqnat_plugin import compat
from vqnat_plugin.cpu import use_fast_kernels
from vqnat_plugin.evaluation.tables import markdown_table
from vqnat_plugin.files import write_json
from vqnat_plugin.machine import describe_machine, describe_versions

assert compat  # importing it teaches fairseq today's torch

from fairseq import options as fairseq_options  # noqa: E402
from fairseq import tasks  # noqa: E402
from fairseq.dataclass.utils import convert_namespace_to_omegaconf  # noqa: E402
from fairseq.logging import metrics  # noqa: E402
from fairseq.trainer import Trainer  # noqa: E402

# Architecture of the student; width, width of the feed-forward layers, layers and heads of the teacher.
SIZES = {
    "tiny": ("vq_nat_em_tiny", 128, 512, 2, 4),
    "small": ("vq_nat_em_small", 256, 1024, 3, 4),
    "base": ("vq_nat_em", 512, 2048, 6, 8),
}
# Methods of the models, and the parts that they are. What runs inside one of another part counts for that.
PARTS = {
    "encoder.forward": "encoder",
    "compressor.forward": "compressor",
    "quantizer.forward": "bottleneck",
    "update_codebook": "bottleneck",
    "predictor.forward": "predictor",
    "upsampler.forward": "decoder",
    "decoder.forward": "decoder",
    "decoder.project": "decoder",
    "decoder.output_projection.forward": "words, losses",
}


class Clock:
    """Seconds by part; while a part runs inside another one, the other one's time stands still."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def running(self, part: str) -> Iterator[None]:
        """Count the time of a block."""
        self._settle()
        self._running.append(part)
        try:
            yield
        finally:
            self._settle()
            self._running.pop()

    def _settle(self) -> None:
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def watch(self, owner: Any, name: str, part: str) -> None:
        """Count the time of a method."""
        method = getattr(owner, name)

        def watched(*args: Any, **named: Any) -> Any:
            with self.running(part):
                return method(*args, **named)

        setattr(owner, name, watched)


class Training:
    """A model in training, watched by a clock."""

    def __init__(self, arguments: list[str], seed: int) -> None:
        parser = fairseq_options.get_training_parser()
        config = convert_namespace_to_omegaconf(fairseq_options.parse_args_and_arch(parser, arguments))
        torch.manual_seed(seed)
        self.task = tasks.setup_task(config.task)
        model, criterion = self.task.build_model(config.model), self.task.build_criterion(config.criterion)
        self.trainer = Trainer(config, self.task, model, criterion)
        self.trainer.begin_epoch(1)
        self.clock = Clock()
        for path, part in PARTS.items():
            *modules, method = path.split(".")
            try:
                owner = model.get_submodule(".".join(modules))
                self.clock.watch(owner, method, part)
            except AttributeError:
                continue  # not a part of this model
        self.clock.watch(criterion, "forward", "words, losses")
        self.clock.watch(self.trainer.optimizer, "backward", "backward")
        self.clock.watch(self.trainer, "clip_grad_norm", "optimizer")
        self.clock.watch(self.task, "optimizer_step", "optimizer")

    def update(self, batch: Callable[[], dict[str, Any]]) -> dict[str, float]:
        """Seconds by part of one update."""
        self.clock.seconds.clear()
        with self.clock.running("data"):
            made = batch()
        with self.clock.running("rest"):
            self.trainer.train_step([made])
        return dict(self.clock.seconds)


def arguments_of(options: argparse.Namespace) -> dict[str, list[str]]:
    """What `fairseq-train` would be given for each model."""
    arch, width, hidden, layers, heads = SIZES[options.size]
    common = [str(options.data), "--optimizer", "adam", "--adam-betas", "(0.9,0.98)", "--lr", "1e-4"]
    common += ["--clip-norm", "1", "--max-tokens", str(options.max_tokens), "--seed", str(options.seed)]
    common += ["--cpu", "--log-format", "none", "--no-save"] + ["--amp"] * options.mixed_precision
    transformer = ["--encoder-normalize-before", "--decoder-normalize-before", "--share-all-embeddings"]
    for side in ("encoder", "decoder"):
        transformer += [f"--{side}-embed-dim", str(width), f"--{side}-ffn-embed-dim", str(hidden)]
        transformer += [f"--{side}-layers", str(layers), f"--{side}-attention-heads", str(heads)]
    teacher = [
        "--task",
        "translation",
        "--criterion",
        "label_smoothed_cross_entropy",
        "--arch",
        "transformer",
    ]
    student = ["--task", "translation_vq", "--criterion", "vq_nat_loss", "--arch", arch]
    return {
        "teacher": [*common, *teacher, *transformer],
        "student": [*common, *student, "--unquantized-updates", "1", *options.student],
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of an update by part, medians; and what follows from them."""
    rows: dict[str, list[dict[str, float]]] = {"teacher": [], "student": []}
    words = 0
    with metrics.aggregate(new_root=True):
        trainings = {name: Training(given, options.seed) for name, given in arguments_of(options).items()}
        # Both make their batches from the same data.
        task = trainings["teacher"].task
        task.load_dataset("train")
        dataset = task.dataset("train")
        batches = list(task.get_batch_iterator(dataset, options.max_tokens, seed=options.seed).frozen_batches)
        torch.manual_seed(options.seed)
        order = torch.randperm(len(batches)).tolist()
        for number in tqdm(range(options.warmup + options.updates), leave=False):
            sentences = batches[order[number % len(order)]]

            def batch(sentences: Any = sentences) -> dict[str, Any]:
                made: dict[str, Any] = dataset.collater([dataset[index] for index in sentences])
                return made

            in_turn = list(trainings.items())
            for name, training in in_turn[:: 1 if number % 2 else -1]:
                parts = training.update(batch)
                if number >= options.warmup:
                    rows[name].append(parts)
            words += batch()["ntokens"] if number >= options.warmup else 0
    return {name: _summary(found, words) for name, found in rows.items()}


def _summary(updates: list[dict[str, float]], words: int) -> dict[str, Any]:
    parts = sorted({part for update in updates for part in update})
    whole = [sum(update.values()) for update in updates]
    return {
        "parts_ms": {
            part: round(statistics.median(update.get(part, 0.0) for update in updates) * 1000, 2)
            for part in parts
        },
        "update_ms": round(statistics.median(whole) * 1000, 2),
        "microseconds_per_word": round(statistics.median(whole) * len(updates) / words * 1e6, 2),
    }


def table(found: dict[str, Any]) -> str:
    """A row for each part, and for the whole."""
    teacher, student = found["teacher"], found["student"]
    names = list(dict.fromkeys([*PARTS.values(), "backward", "optimizer", "data", "rest"]))
    rows = [
        [
            part,
            *(
                f"{each['parts_ms'][part]:.1f}" if part in each["parts_ms"] else ""
                for each in (teacher, student)
            ),
        ]
        for part in names
    ]
    rows += [
        ["update", f"{teacher['update_ms']:.1f}", f"{student['update_ms']:.1f}"],
        ["µs a target word", *(f"{each['microseconds_per_word']:.1f}" for each in (teacher, student))],
    ]
    return markdown_table(["ms, medians", "teacher", "student"], rows)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = "(default: %(default)s)"
    parser.add_argument("data", type=Path, metavar="DATA_BIN", help="binarised data with one dictionary")
    parser.add_argument("--size", choices=SIZES, default="small", help=f"of both models {default}")
    parser.add_argument("--max-tokens", type=int, default=2048, metavar="N", help=f"of a batch {default}")
    parser.add_argument("--updates", type=int, default=20, metavar="N", help=f"timed {default}")
    parser.add_argument("--warmup", type=int, default=3, metavar="N", help=f"untimed before {default}")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help=f"of torch {default}")
    parser.add_argument("--mixed-precision", action="store_true", help="as in vqnat train")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help=default)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument(
        "--student",
        nargs=argparse.REMAINDER,
        default=[],
        metavar="OPTION",
        help="of its training; comes last",
    )
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    use_fast_kernels()
    found = measure(options)
    ratio = found["student"]["microseconds_per_word"] / found["teacher"]["microseconds_per_word"]
    machine, versions = describe_machine(), describe_versions()
    print(f"{options.size}, {options.max_tokens} tokens a batch, {options.threads} thread(s)")
    print(", ".join(f"{name}: {value}" for name, value in {**machine, **versions}.items()))
    print(f"\n{table(found)}\n\nstudent / teacher: {ratio:.2f}")
    if options.json:
        settings = {
            name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()
        }
        figures = {"settings": settings, **found, "ratio": round(ratio, 3)}
        write_json(options.json, {**figures, "machine": machine, "versions": versions})


if __name__ == "__main__":
    main()
