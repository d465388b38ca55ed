"""Systems side by side: each is decoded, scored and timed exactly as it is declared; what is done is kept.

`OUT/decoded/NAME.txt` is what a system wrote, `OUT/decoded/NAME.json` what it was declared as when it did;
`OUT/latency.json` is one measurement of all systems, `OUT/latents.json` has the figures of the latents. Each
says what it is of, and is made anew when that is not what is asked for.
"""

import dataclasses
import gc
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..analysis.latents import evaluate_latents
from ..errors import DataError, UsageError
from ..evaluation.bleu import bleu_metric, paired_bootstrap, score
from ..evaluation.detokenizer import Detokenizer
from ..evaluation.kinds import EXPORTED, FAIRSEQ, check_systems, kind_of, load
from ..evaluation.latency import Timing, beam_baseline, choose_batches, measure, summarize
from ..evaluation.parts import profile
from ..evaluation.report import comparison_report, own_command, without_folders
from ..evaluation.settings import ComparisonOptions, TimingOptions
from ..evaluation.steadiness import FixedWork, as_words, is_busy, steadiness
from ..evaluation.systems import Conditions, System
from ..files import write_json, write_lines
from ..machine import available_device, describe_machine, describe_versions
from ..reading import read_json_if_there, read_lines, sha256
from ..text.languages import sacrebleu_tokenizer
from .stages import Stages


@dataclasses.dataclass(frozen=True)
class Decoded:
    """What a system wrote.

    Attributes:
        texts: the subset, detokenised, in its order.
        latent: whether the system decodes through discrete latents.
        duration: seconds of decoding, with loading.
    """

    texts: list[str]
    latent: bool
    duration: float


class SideBySide:
    """Systems under the same conditions, with a folder for what is done."""

    def __init__(self, systems: Sequence[System], conditions: Conditions, out: Path) -> None:
        """
        Args:
            systems: as declared, with different names.
            conditions: the same for all of them.
            out: folder.

        Raises:
            DataError, CheckpointError, UsageError: see `check_systems`.
        """
        self.conditions = check_systems(systems, conditions)
        self.systems, self.out = systems, out
        self.kinds = {system.name: kind_of(system) for system in systems}
        self.device = available_device(conditions.cpu)
        others = [name for name, kind in self.kinds.items() if kind != FAIRSEQ]
        if self.device.type == "cuda" and others:
            print(
                f"on the CPU: {', '.join(others)}; checkpoints are on the GPU, unless --cpu", file=sys.stderr
            )
        self.identities = {system.name: system.identity() for system in systems}
        # What was decoded or timed with other engines or on another device is made again.
        device = torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"
        self.surroundings = {
            **self.conditions.identity(),
            "device": device,
            "versions": describe_versions(),
        }

    def decode(
        self, system: System, batch_size: int, tokenizer: str | None, references: Sequence[Sequence[str]]
    ) -> Decoded:
        """What a system makes of the subset; it is decoded unless that is known.

        Args:
            system: one of these.
            batch_size: sentences a batch.
            tokenizer: how tokens become text, see `Detokenizer`.
            references: of the subset.

        Raises:
            DataError: see `load`; or a reference has another number of sentences.
        """
        text = self.out / "decoded" / f"{system.file_name}.txt"

        def make() -> dict[str, Any]:
            translator = load(system, self.conditions)
            for lines in references:
                if len(lines) != len(translator.lengths):
                    raise DataError(
                        f"--ref: {len(lines)} lines, but '{self.conditions.subset}' in "
                        f"{self.conditions.data} has {len(translator.lengths)} sentences; are these the "
                        "references of this subset, with none left out?"
                    )
            detokenizer = Detokenizer(translator.task, self.conditions.data, tokenizer)
            texts = translator.decode(batch_size, detokenizer)
            # A line each: what ends a line elsewhere may stand inside a sentence, a line feed not.
            write_lines(text, (" ".join(line.splitlines()) for line in texts))
            return {"system": system.name, "text": sha256(text), "latent": translator.latent}

        conditions = {**self.surroundings, "batch_size": batch_size, "tokenizer": tokenizer}
        record = _known_or_made(
            self.out / "decoded" / f"{system.file_name}.json",
            {**self.identities[system.name], **conditions},
            make,
            lambda record: (
                text.is_file() and sha256(text) == record["text"] and type(record["latent"]) is bool
            ),
        )
        return Decoded(read_lines(text), record["latent"], record["duration"])

    def time(self, options: TimingOptions) -> tuple[dict[str, Any], float]:
        """Time all systems, unless that is known.

        Returns:
            What a report says of it, and the seconds it took: `systems` (see `summarize`), `baseline`,
            `beam_baseline`, and how it was measured.

        Raises:
            DataError: see `load`.
        """
        how = {name: getattr(options, name) for name in ("sentences", "warmup", "threads", "seed")}
        about = {**how, "subset": self.conditions.subset, "device": self.surroundings["device"]}
        systems = [[system.name, self.identities[system.name]] for system in self.systems]
        sizes = {"batch_sizes": options.batch_sizes, "profile": options.profile}
        measured = _known_or_made(
            self.out / "latency.json",
            {"systems": systems, **self.surroundings, **about, **sizes},
            lambda: {**self._measure(options), "machine": describe_machine()},
            lambda record: self._is_measured(record, options),
        )
        timings = _timings(measured)
        baselines = _baselines(options)
        figures = summarize(self.systems, timings, baselines, options.seed)
        for name, engine in measured["engines"].items():
            figures[name] |= engine
        return {
            "systems": figures,
            "baseline": baselines[0],
            "baselines": list(baselines),
            "beam_baseline": beam_baseline(self.systems, baselines[0]),
            **about,
            "batch_sizes": list(options.batch_sizes),
            "precision": self.conditions.precision,
            "machine": measured["machine"],
            "steadiness": self._steadiness(measured["work"]) | {"timed_again": measured["timed_again"]},
        }, measured["duration"]

    def _steadiness(self, work: Sequence[float]) -> dict[str, float]:
        """How steady the machine was; warns if it was not idle."""
        found = steadiness(work)
        if is_busy(found):
            print(
                f"{self.out}: the machine was busy, and times are not to be relied on: {as_words(found)} "
                f"(median); stop what else runs and delete {self.out / 'latency.json'} to measure anew",
                file=sys.stderr,
            )
        return found

    def _is_measured(self, record: dict[str, Any], options: TimingOptions) -> bool:
        """Whether a record has what `_measure` gives, of all systems."""
        timings, engines, names = _timings(record), record["engines"], self.kinds.keys()
        complete = set(timings) == set(options.batch_sizes) and engines.keys() == names
        return (
            complete
            and all(rows.keys() == names for rows in timings.values())
            and all(type(each) is dict for each in (*engines.values(), record["machine"]))
            and bool(record["work"])
            and all(_is_number(each) and each > 0 for each in record["work"])
            and type(record["timed_again"]) is int
        )

    def _measure(self, options: TimingOptions) -> dict[str, Any]:
        threads = torch.get_num_threads()
        torch.set_num_threads(options.threads)
        try:
            loaded = [load(system, self.conditions, options.threads) for system in self.systems]
            engines: dict[str, dict[str, Any]] = {
                each.name: {
                    "kind": self.kinds[each.name],
                    "precision": each.precision,
                    "device": self.device.type if each.gpu else "cpu",
                }
                for each in loaded
            }
            torch.manual_seed(options.seed)
            timings, work, seconds, again = {}, FixedWork(), [], 0
            for size in options.batch_sizes:
                batches = choose_batches(loaded[0].lengths, size, options.sentences, options.seed)
                found = measure(loaded, batches, options.warmup, f"batches of {size}", work)
                timings[str(size)] = {
                    name: dataclasses.asdict(timing) for name, timing in found.timings.items()
                }
                seconds += found.work
                again += found.again
                for each in loaded if options.profile else ():
                    if self.kinds[each.name] == EXPORTED:
                        parts = engines[each.name].setdefault("profile_ms", {})
                        parts[f"batch_{size}"] = profile(each, batches, options.warmup)
            return {"timings": timings, "engines": engines, "work": seconds, "timed_again": again}
        finally:
            torch.set_num_threads(threads)

    def latents(self, system: System, tokenizer: str | None, tokenize: str) -> dict[str, Any]:
        """`figures` of the latents of a system of one checkpoint, and the seconds they took, `duration`.

        Args:
            system: one of these.
            tokenizer: how tokens become text, see `Detokenizer`.
            tokenize: sacreBLEU's name of its tokeniser.
        """

        def make() -> dict[str, Any]:
            [path], data = system.checkpoints, self.conditions.data
            subset, device = self.conditions.subset, self.device
            figures = evaluate_latents(
                Path(path), data, subset, tokenizer=tokenizer, device=device, tokenize=tokenize
            )
            return {"figures": figures}

        wanted = {
            "checkpoint": self.identities[system.name]["checkpoints"],
            "data": self.surroundings["data"],
            "subset": self.conditions.subset,
            "tokenizer": tokenizer,
            "tokenize": tokenize,
            "device": self.surroundings["device"],
            "versions": self.surroundings["versions"],
        }
        return _known_or_made(
            self.out / "latents.json",
            wanted,
            make,
            lambda record: all(map(_is_number, record["figures"].values())),
        )


def _known_or_made(
    path: Path,
    wanted: Mapping[str, Any],
    make: Callable[[], dict[str, Any]],
    sound: Callable[[dict[str, Any]], bool],
) -> dict[str, Any]:
    """The content of a file, if it is of what is wanted and sound; else it is made, with its `duration`."""
    # As it comes back from a file.
    wanted = json.loads(json.dumps(wanted))
    try:
        content = read_json_if_there(path) or {}
    except DataError:
        content = {}
    if content.get("of") == wanted and _is_sound(content, sound):
        print(f"{path}: of the same systems and options; delete it to measure anew", file=sys.stderr)
        return content
    start = time.monotonic()
    content = make()
    content |= {"duration": round(time.monotonic() - start, 1), "of": wanted}
    write_json(path, content)
    # One model at a time: the next may be large.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return content


def _is_sound(content: dict[str, Any], sound: Callable[[dict[str, Any]], bool]) -> bool:
    """Whether a record of what was done can be used; nobody knows who has written to the folder since."""
    try:
        return _is_number(content["duration"]) and sound(content)
    except (AttributeError, KeyError, TypeError, ValueError):
        return False


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _timings(record: Mapping[str, Any]) -> dict[int, dict[str, Timing]]:
    """What was measured, by batch size and system.

    Raises:
        Exception: it is not of this form (`KeyError`, `TypeError`, `ValueError`, `AttributeError`).
    """
    found = {
        int(size): {name: Timing(**timing) for name, timing in rows.items()}
        for size, rows in record["timings"].items()
    }
    for timing in (timing for rows in found.values() for timing in rows.values()):
        figures = (*timing.seconds, timing.tokens, timing.passes or 0)
        if not timing.seconds or not all(map(_is_number, figures)):
            raise ValueError(timing)
    return found


def _baselines(options: TimingOptions) -> tuple[str, ...]:
    """The systems that others are compared with, the main one first."""
    return options.baseline or (options.systems()[0].name,)


def _open(options: TimingOptions) -> SideBySide:
    comparison = SideBySide(options.systems(), options.conditions(), options.out)
    if options.profile and EXPORTED not in comparison.kinds.values():
        raise UsageError("--profile: shows the parts of exported models, and no system is one")
    return comparison


def benchmark(options: TimingOptions) -> dict[str, Any]:
    """Time systems; returns the report, see `comparison_report`.

    Raises:
        UsageError, DataError: see `SideBySide`; or there is nothing to profile.
    """
    latency, seconds = _open(options).time(options)
    return _report(options, ["vqnat", "benchmark"], {"benchmark": seconds}, latency=latency)


def compare(options: ComparisonOptions) -> dict[str, Any]:
    """Decode, score and time systems; returns the report, see `comparison_report`.

    Raises:
        DataError: see `SideBySide`, or a reference cannot be read.
        UsageError: see `SideBySide` and `bleu_metric`; or there is nothing to profile.
    """
    systems, references = options.systems(), [read_lines(path) for path in options.ref]
    comparison = _open(options)
    tokenize = options.tokenize or sacrebleu_tokenizer(comparison.conditions.target_lang)
    # Before anything is decoded: what it needs may not be installed.
    bleu_metric(tokenize)
    decoded = {
        system.name: comparison.decode(system, options.batch_size, options.tokenizer, references)
        for system in systems
    }
    scores = {name: score(each.texts, references, tokenize).as_dict() for name, each in decoded.items()}
    texts = {name: each.texts for name, each in decoded.items()}
    for name, sure in paired_bootstrap(texts, references, _baselines(options)[0], tokenize).items():
        scores[name] |= sure
    seconds = {f"decode {name}": each.duration for name, each in decoded.items()}
    figures: dict[str, float] = {}
    # Those of the first system that has latents.
    latent = (
        each
        for each in systems
        if decoded[each.name].latent and comparison.kinds[each.name] == FAIRSEQ and len(each.checkpoints) == 1
    )
    if first := next(latent, None):
        latents = comparison.latents(first, options.tokenizer, tokenize)
        figures, seconds["latents"] = latents["figures"], latents["duration"]
    latency, seconds["benchmark"] = comparison.time(options)
    latents_of = first.name if first else ""
    figures_of = {"latents": figures, "latents_of": latents_of}
    return _report(options, ["vqnat", "compare"], seconds, scores=scores, latency=latency, **figures_of)


def _report(
    options: TimingOptions, program: list[str], seconds: Mapping[str, float], **parts: Any
) -> dict[str, Any]:
    """The report, with the stages before this one that were run for the same folder, or the one it is in."""
    places = (options.out, options.out.parent)
    out = next((each for each in places if (each / "stages").is_dir()), options.out)
    folders = {"OUT": out, "DATA": options.data}
    stages = Stages(out)
    before, commands = stages.before(program, unless="--convert")
    report = comparison_report(
        options.title,
        systems={system.name: system.as_dict() for system in options.systems()},
        stages={**before, **seconds},
        seed=options.seed,
        notes=options.note,
        **parts,
    )
    own = own_command(program, options, folders)
    elsewhere = stages.elsewhere(before)
    return {**without_folders(report, folders), "commands": [*commands, own], "elsewhere": elsewhere}
