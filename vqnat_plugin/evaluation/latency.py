"""Latency of several systems side by side, in one process, batch by batch in turn.

What is timed is what a user waits for: from source tokens on the host to the best hypothesis on the host,
with the GPU synchronised at both ends. All systems decode the same batch before the next one comes, in
rotating order, so that whatever else happens on the machine hits them alike. The stock generator of fairseq
keeps keys and values, so a fairseq Transformer with beam 1 is a fair baseline.
"""

import ast
import dataclasses
import random
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from fairseq import checkpoint_utils, utils
from fairseq.dataclass.configs import GenerationConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ValidationError
from tqdm import tqdm

from ..errors import DataError

GENERATION_OPTIONS = {field.name for field in dataclasses.fields(GenerationConfig)}
# Large batches come rarely in a few sentences; a median needs this many at least.
MIN_BATCHES = 10


@dataclass(frozen=True)
class SystemSpec:
    """One row of the comparison: checkpoints, and how they decode.

    Attributes:
        name: of the row.
        checkpoints: one path, or several for an ensemble.
        generation: options of fairseq's generation, for example `beam` or `lenpen`.
        overrides: options of the checkpoint's task or model, for example `rescore_with`.
    """

    name: str
    checkpoints: tuple[str, ...]
    generation: dict[str, Any]
    overrides: dict[str, Any]

    @property
    def beam(self) -> int:
        return int(self.generation["beam"])


def parse_system(text: str) -> SystemSpec:
    """Parse `NAME=CHECKPOINT[:CHECKPOINT...][;OPTION=VALUE...]`; without `beam` it is 1.

    Raises:
        DataError: the text has another form.
    """
    head, *settings = text.split(";")
    name, _, paths = (part.strip() for part in head.partition("="))
    if not name or not paths:
        raise DataError(f"--system {text!r}: needs the form NAME=CHECKPOINT[;OPTION=VALUE...]")
    generation: dict[str, Any] = {"beam": 1}
    overrides: dict[str, Any] = {}
    for setting in settings:
        option, equals, value = (part.strip() for part in setting.partition("="))
        option = option.replace("-", "_")
        if not option or not equals:
            raise DataError(f"--system {text!r}: {setting!r} needs the form OPTION=VALUE")
        (generation if option in GENERATION_OPTIONS else overrides)[option] = _value(value)
    if not isinstance(generation["beam"], int) or generation["beam"] < 1:
        raise DataError(f"--system {text!r}: beam must be a whole number from 1")
    return SystemSpec(name, tuple(paths.split(":")), generation, overrides)


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


class Translator(Protocol):
    """What `measure` needs of a system."""

    name: str

    def prepare(self, sentences: Sequence[int]) -> Any:
        """The batch of these sentences of the test set, on the host. Not timed."""

    def translate(self, batch: Any) -> list[list[int]]:
        """The best hypothesis of each sentence, on the host. Timed."""

    def synchronize(self) -> None:
        """Wait until the device is idle."""


class FairseqTranslator:
    """A system made of fairseq checkpoints, decoded through their own task as `fairseq-generate` does."""

    def __init__(
        self, spec: SystemSpec, data: Path, subset: str, cuda: bool = False, half: bool = False
    ) -> None:
        """Load the checkpoints and the test set.

        Args:
            spec: what to load and how to decode.
            data: binarised data; replaces the folder that the checkpoint was trained on.
            subset: split of `data` to translate.
            cuda: run on the GPU.
            half: half precision.

        Raises:
            DataError: a checkpoint or the split is missing, or an option is unknown.
        """
        self.name = spec.name
        self.cuda = cuda
        options = _generation_options(spec)
        missing = [path for path in spec.checkpoints if not Path(path).is_file()]
        if missing:
            raise DataError(f"system {spec.name}: no checkpoint {missing[0]}")
        _check_overrides(spec)
        # BLEU during validation would build one more generator.
        overrides = {"data": str(data), "eval_bleu": False, **spec.overrides}
        self.models, cfg, self.task = checkpoint_utils.load_model_ensemble_and_task(
            list(spec.checkpoints), arg_overrides=overrides
        )
        with open_dict(cfg):
            cfg.generation = options
        for model in self.models:
            model.eval()
            if half:
                model.half()
            if cuda:
                model.cuda()
            model.prepare_for_inference_(cfg)
        self.generator = self.task.build_generator(self.models, options)
        try:
            self.task.load_dataset(subset, task_cfg=cfg.task)
        except FileNotFoundError as error:
            raise DataError(f"--subset {subset}: not in {data} ({error})") from None
        self.dataset = self.task.dataset(subset)

    def prepare(self, sentences: Sequence[int]) -> dict[str, Any]:
        batch = self.dataset.collater([self.dataset[number] for number in sentences])
        # The source alone, as for text without a translation.
        source = {name: batch["net_input"][name] for name in ("src_tokens", "src_lengths")}
        return {"id": batch["id"], "nsentences": len(sentences), "target": None, "net_input": source}

    def translate(self, batch: dict[str, Any]) -> list[list[int]]:
        sample = utils.move_to_cuda(batch) if self.cuda else batch
        hypotheses = self.task.inference_step(self.generator, self.models, sample)
        return [candidates[0]["tokens"].tolist() for candidates in hypotheses]

    def synchronize(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


def _generation_options(spec: SystemSpec) -> DictConfig:
    try:
        return OmegaConf.structured(GenerationConfig(**spec.generation))
    except ValidationError as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"system {spec.name}: {reason} (generation: {spec.generation})") from None


def _check_overrides(spec: SystemSpec) -> None:
    """fairseq ignores overrides that it does not know: a misspelt one would be timed as if it were absent."""
    if not spec.overrides:
        return
    state = checkpoint_utils.load_checkpoint_to_cpu(spec.checkpoints[0])
    unknown = set(spec.overrides) - set(_option_names(state["cfg"] or state["args"]))
    if unknown:
        raise DataError(
            f"system {spec.name}: neither fairseq's generation nor this checkpoint knows '{min(unknown)}'"
        )


def _option_names(cfg: DictConfig | Namespace) -> Iterator[str]:
    """Names of all options in a checkpoint's configuration, at any depth."""
    entries = cfg.items_ex(resolve=False) if isinstance(cfg, DictConfig) else vars(cfg).items()
    for name, value in entries:
        yield str(name)
        if isinstance(value, DictConfig | Namespace):
            yield from _option_names(value)


def choose_batches(lengths: Sequence[int], batch_size: int, sentences: int, seed: int) -> list[list[int]]:
    """Full batches of a random sample of the test set.

    Args:
        lengths: source tokens of each sentence of the test set.
        batch_size: sentences a batch.
        sentences: how many to translate, at least; `MIN_BATCHES` are made even if that is more. A small
            test set is used again as often as it takes.
        seed: of the sample and of the order of the batches.

    Returns:
        Sentence numbers of each batch. As in fairseq, a batch holds sentences of similar length.
    """
    count = max(MIN_BATCHES, -(-sentences // batch_size))
    rng = random.Random(seed)
    pool: list[int] = []
    while len(pool) < count * batch_size:
        pool += rng.sample(range(len(lengths)), len(lengths))
    chosen = sorted(pool[: count * batch_size], key=lambda number: lengths[number])
    batches = [chosen[start : start + batch_size] for start in range(0, len(chosen), batch_size)]
    rng.shuffle(batches)
    return batches


@dataclass(frozen=True)
class Timing:
    """Seconds of each batch, and the tokens that came out of all of them."""

    seconds: list[float]
    tokens: int

    def milliseconds(self) -> dict[str, float]:
        """Median and 90th percentile, in milliseconds a batch."""
        median, p90 = np.percentile(np.array(self.seconds) * 1000, [50, 90])
        return {"median": round(float(median), 3), "p90": round(float(p90), 3)}


def measure(
    systems: Sequence[Translator], batches: Sequence[Sequence[int]], warmup: int = 3, title: str = ""
) -> dict[str, Timing]:
    """Translate every batch with every system, in turn.

    Args:
        systems: at least one, with different names.
        batches: sentence numbers of each batch.
        warmup: batches that every system translates first, untimed.
        title: of the progress bar.

    Returns:
        Timings by name of the system.
    """
    seconds: dict[str, list[float]] = {system.name: [] for system in systems}
    tokens = dict.fromkeys(seconds, 0)
    for sentences in batches[:warmup]:
        for system in systems:
            system.translate(system.prepare(sentences))
    for turn, sentences in enumerate(tqdm(batches, desc=title, mininterval=1)):
        first = turn % len(systems)
        for system in (*systems[first:], *systems[:first]):
            batch = system.prepare(sentences)
            system.synchronize()
            start = time.perf_counter()
            translations = system.translate(batch)
            system.synchronize()
            seconds[system.name].append(time.perf_counter() - start)
            tokens[system.name] += sum(map(len, translations))
    return {name: Timing(times, tokens[name]) for name, times in seconds.items()}
