"""Systems side by side: each is decoded, scored and timed exactly as it is declared; what is done is kept.

`OUT/decoded/NAME.txt` is what a system wrote, `OUT/decoded/NAME.json` what it was declared as when it did;
`OUT/latency.json` is one measurement of all systems, `OUT/latents.json` has the figures of the latents. Each
says what it is of, and is made anew when that is not what is asked for.
"""

import dataclasses
import gc
import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import DataError
from ..files import read_json_if_there, read_lines, sha256, write_json, write_lines
from ..machine import describe_machine
from ..options import words
from ..recipes.stages import Stages
from .bleu import score
from .latency import Timing, beam_baseline, choose_batches, measure, summarize
from .report import comparison_report, without_folders
from .settings import ComparisonOptions, TimingOptions
from .systems import Conditions, Measurement, System, Translator, check_systems, open_system


@dataclasses.dataclass(frozen=True)
class Decoded:
    """What a system wrote.

    Attributes:
        texts: the subset, detokenised, in its order.
        latent: whether the system decodes through discrete latents.
        seconds: of decoding, with loading.
    """

    texts: list[str]
    latent: bool
    seconds: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Systems under the same conditions, with a folder for what is done.

    Attributes:
        systems: as declared, with different names.
        conditions: the same for all of them.
        out: folder.
    """

    systems: Sequence[System]
    conditions: Conditions
    out: Path

    def decode(self, batch_size: int, tokenizer: str, sentences: int) -> dict[str, Decoded]:
        """What each system makes of the subset, by name; it is decoded unless that is known.

        Args:
            batch_size: sentences a batch.
            tokenizer: undoes the tokenisation, `moses` or `space`.
            sentences: of the references.

        Raises:
            DataError: see `open_system`; or the subset has another number of sentences.
        """
        conditions = {**self.conditions.identity(), "batch_size": batch_size, "tokenizer": tokenizer}
        wanted = {system.name: _plain({**system.identity(), **conditions}) for system in self.systems}
        known = {system.name: self._known(system, wanted[system.name]) for system in self.systems}
        if missing := [system for system in self.systems if known[system.name] is None]:
            check_systems(self.systems, self.conditions)
        for system in missing:
            start = time.monotonic()
            translator = open_system(system, self.conditions)
            self._check_references(len(translator.lengths), sentences)
            texts = translator.decode(batch_size, tokenizer)
            decoded = Decoded(texts, translator.latent, round(time.monotonic() - start, 1))
            known[system.name] = self._keep(system, wanted[system.name], decoded)
            # One model at a time: the next may be large.
            del translator
            _free()
        found = {name: decoded for name, decoded in known.items() if decoded is not None}
        for decoded in found.values():
            self._check_references(len(decoded.texts), sentences)
        return found

    def _check_references(self, found: int, expected: int) -> None:
        if found != expected:
            raise DataError(
                f"--ref: {expected} lines, but '{self.conditions.subset}' in {self.conditions.data} has "
                f"{found} sentences; are these the references of this subset, with none left out?"
            )

    def _files(self, system: System) -> tuple[Path, Path]:
        folder = self.out / "decoded"
        return folder / f"{system.file_name}.txt", folder / f"{system.file_name}.json"

    def _known(self, system: System, wanted: Mapping[str, Any]) -> Decoded | None:
        text, path = self._files(system)
        record = _kept(path, wanted)
        if record is None or not text.is_file() or sha256(text) != record["text"]:
            return None
        _say(f"{system.name}: decoded before")
        return Decoded(read_lines(text), record["latent"], record["seconds"])

    def _keep(self, system: System, wanted: Mapping[str, Any], decoded: Decoded) -> Decoded:
        text, path = self._files(system)
        # A line each: what ends a line elsewhere may stand inside a sentence, a line feed not.
        write_lines(text, (" ".join(line.splitlines()) for line in decoded.texts))
        record = {"text": sha256(text), "latent": decoded.latent, "seconds": decoded.seconds}
        write_json(path, {"system": system.name, **record, "of": wanted})
        return dataclasses.replace(decoded, texts=read_lines(text))

    def time(self, measurement: Measurement) -> dict[str, Any]:
        """The measurement of all systems; it is made unless it is known.

        Returns:
            The content of `latency.json`: `timings` (seconds and tokens by batch size and name) and how they
            came about.

        Raises:
            DataError: see `open_system`; or the systems' test sets differ.
        """
        device = torch.cuda.get_device_name() if self.conditions.uses_gpu else "cpu"
        wanted = _plain(
            {
                "systems": [[system.name, system.identity()] for system in self.systems],
                "conditions": self.conditions.identity(),
                "measurement": dataclasses.asdict(measurement),
                "device": device,
            }
        )
        path = self.out / "latency.json"
        if (kept := _kept(path, wanted)) is not None:
            _say(f"{path}: of the same systems, options and device; delete it to measure anew")
            return kept
        check_systems(self.systems, self.conditions)
        start = time.monotonic()
        timings = self._measure(measurement)
        content = {
            "timings": {
                str(size): {name: dataclasses.asdict(timing) for name, timing in rows.items()}
                for size, rows in timings.items()
            },
            "sentences": measurement.sentences,
            "subset": self.conditions.subset,
            "device": device,
            "precision": self.conditions.precision,
            "threads": measurement.threads,
            "seed": measurement.seed,
            "machine": describe_machine(),
            "duration": round(time.monotonic() - start, 1),
            "of": wanted,
        }
        write_json(path, content)
        return content

    def _measure(self, measurement: Measurement) -> dict[int, dict[str, Timing]]:
        threads = torch.get_num_threads()
        torch.set_num_threads(measurement.threads)
        try:
            loaded = [open_system(system, self.conditions) for system in self.systems]
            lengths = _common_lengths(loaded, self.conditions)
            torch.manual_seed(measurement.seed)
            return {
                size: measure(
                    loaded,
                    choose_batches(lengths, size, measurement.sentences, measurement.seed),
                    measurement.warmup,
                    title=f"batches of {size}",
                )
                for size in measurement.batch_sizes
            }
        finally:
            torch.set_num_threads(threads)
            _free()

    def latents(
        self, decoded: Mapping[str, Decoded], tokenizer: str
    ) -> tuple[dict[str, float], float | None]:
        """Figures of the first system with latents, and the seconds they took; empty and None without one."""
        latent = [each for each in self.systems if decoded[each.name].latent and len(each.checkpoints) == 1]
        if not latent:
            return {}, None
        data = {"data": self.conditions.identity()["data"], "subset": self.conditions.subset}
        checkpoint = latent[0].identity()["checkpoints"][0]
        wanted = _plain({"checkpoint": checkpoint, **data, "tokenizer": tokenizer})
        path = self.out / "latents.json"
        if (kept := _kept(path, wanted)) is None:
            from ..analysis.latents import evaluate_latents

            start = time.monotonic()
            figures = evaluate_latents(
                Path(latent[0].checkpoints[0]),
                self.conditions.data,
                self.conditions.subset,
                tokenizer=tokenizer,
                device=torch.device("cuda" if self.conditions.uses_gpu else "cpu"),
            )
            kept = {"figures": figures, "duration": round(time.monotonic() - start, 1), "of": wanted}
            write_json(path, kept)
        return kept["figures"], kept["duration"]


def _kept(path: Path, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a file has, if it is of what is wanted."""
    try:
        content = read_json_if_there(path)
    except DataError:
        return None
    return content if content is not None and content.get("of") == wanted else None


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """A value as it comes back from a file."""
    return json.loads(json.dumps(value))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _common_lengths(loaded: Sequence[Translator], conditions: Conditions) -> Sequence[int]:
    counts = {system.name: len(system.lengths) for system in loaded}
    if len(set(counts.values())) > 1:
        raise DataError(
            f"--gen-subset {conditions.subset}: the systems see different numbers of sentences: {counts}"
        )
    return loaded[0].lengths


def read_references(paths: Sequence[Path]) -> list[list[str]]:
    """The lines of reference files.

    Raises:
        DataError: one cannot be read, is empty, or has another number of lines than the first.
    """
    texts = [read_lines(path) for path in paths]
    for path, lines in zip(paths, texts, strict=True):
        if not lines:
            raise DataError(f"--ref {path}: is empty")
        if len(lines) != len(texts[0]):
            raise DataError(f"--ref {path}: {len(lines)} lines, but {paths[0]} has {len(texts[0])}")
    return texts


def latency_figures(
    measured: Mapping[str, Any], systems: Sequence[System], baseline: str | None
) -> dict[str, Any]:
    """What a report says of a measurement.

    Args:
        measured: as `Comparison.time` returns it.
        systems: as declared.
        baseline: name of the greedy teacher, which every speed-up is relative to; the first by default.

    Returns:
        `systems` (see `summarize`), `baseline`, `beam_baseline`, and how it was measured.
    """
    baseline = baseline or systems[0].name
    timings = {
        int(size): {name: Timing(**timing) for name, timing in rows.items()}
        for size, rows in measured["timings"].items()
    }
    about = ("sentences", "subset", "device", "precision", "threads", "seed", "machine")
    return {
        "systems": summarize(systems, timings, baseline),
        "baseline": baseline,
        "beam_baseline": beam_baseline(systems, baseline),
        **{name: measured[name] for name in about},
    }


def benchmark(options: TimingOptions) -> dict[str, Any]:
    """Time systems.

    Returns:
        The report, see `comparison_report`.

    Raises:
        DataError: see `Comparison`.
    """
    systems = options.systems()
    measured = Comparison(systems, options.conditions(), options.out).time(options.measurement())
    return _report(
        options,
        ["vqnat", "benchmark"],
        {"benchmark": measured["duration"]},
        latency=latency_figures(measured, systems, options.baseline),
    )


def compare(options: ComparisonOptions) -> dict[str, Any]:
    """Decode, score and time systems.

    Returns:
        The report, see `comparison_report`.

    Raises:
        DataError: see `Comparison` and `read_references`.
    """
    systems = options.systems()
    references = read_references(options.ref)
    comparison = Comparison(systems, options.conditions(), options.out)
    decoded = comparison.decode(options.batch_size, options.tokenizer, len(references[0]))
    seconds = {f"decode {name}": each.seconds for name, each in decoded.items()}
    latents, duration = comparison.latents(decoded, options.tokenizer)
    if duration is not None:
        seconds["latents"] = duration
    measured = comparison.time(options.measurement())
    seconds["benchmark"] = measured["duration"]
    return _report(
        options,
        ["vqnat", "compare"],
        seconds,
        scores={name: score(each.texts, references).as_dict() for name, each in decoded.items()},
        latency=latency_figures(measured, systems, options.baseline),
        latents=latents,
    )


def _report(
    options: TimingOptions, program: list[str], seconds: Mapping[str, float], **parts: Any
) -> dict[str, Any]:
    """The report, with the stages before this one that were run for the same folder."""
    folders = {"OUT": options.out, "DATA": options.data}
    own = without_folders([*program, *words(options)], folders)
    stages, commands = {}, []
    before = Stages(options.out)
    for (name, time_taken), command in zip(before.seconds().items(), before.commands(), strict=True):
        # A stage that was this comparison is what is made now.
        if shlex.split(command)[:2] != program:
            stages[name] = time_taken
            commands.append(command)
    report = comparison_report(
        options.title,
        systems={system.name: system.as_dict() for system in options.systems()},
        stages={**stages, **seconds},
        seed=options.seed,
        notes=options.note,
        **parts,
    )
    return {**without_folders(report, folders), "commands": [*commands, shlex.join(own)]}
