"""How well does an image model describe images? Bits a dimension, use of its codes, and sheets of images.

Writes images.json (the figures), reconstructions.png (originals over reconstructions), codes.png (every code
at all places of the grid), with --prior samples.png, with earlier checkpoints progress.png, with --train-log
training.png, and report.json and report.md, which also have the stages and commands of a recipe with the
same --out.

  vqnat images evaluate autoencoder/checkpoint_best.pt --prior prior/checkpoint_best.pt --data cifar10
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..options import FILE, FOLDER, IMAGE_SPLITS, MOST_ROUNDS, MOST_SEED, PluginOptions, named_files, option

# The row of the report.
MODEL = "vq_vae_em"
PROGRAM = ["vqnat", "images", "evaluate"]
SHOWN = "sheets"


@dataclass(kw_only=True)
class Options(PluginOptions):
    """Options of `vqnat images evaluate`."""

    checkpoint: Path = option(
        ..., "the trained autoencoder", positional=True, exists=FILE, metavar="CHECKPOINT"
    )
    data: Path = option(..., "folder of images, as in training", exists=FOLDER, metavar="DIR")
    prior: Path | None = option(None, "the prior over its codes", exists=FILE, metavar="CHECKPOINT")
    gen_subset: str = option("test", "which images", choices=IMAGE_SPLITS)
    valid_size: int | None = option(
        None,
        "images held out of 'train' as 'valid' (default: as in the training; the fewer of two models')",
        least=0,
    )
    batch_size: int = option(100, "images at a time", least=1)
    image_cache: Path | None = option(
        None, "folder of decoded images (default: 'images' in --out)", metavar="DIR", writes=FOLDER
    )
    out: Path | None = option(
        None, "folder to write to (default: 'evaluation' beside CHECKPOINT)", metavar="DIR", writes=FOLDER
    )
    cpu: bool = option(False, "do not use a GPU")
    images: int = option(32, "originals and reconstructions shown", least=1, most=MOST_ROUNDS, group=SHOWN)
    samples: int = option(64, "samples of the prior shown", least=1, most=MOST_ROUNDS, group=SHOWN)
    temperature: float = option(1.0, "of the samples", above=0, group=SHOWN)
    seed: int = option(1, "of the samples", least=0, most=MOST_SEED, group=SHOWN)
    earlier_updates: tuple[int, ...] = option(
        (),
        "for progress.png: checkpoint_*_N.pt beside CHECKPOINT, by numbers N of updates",
        least=1,
        group=SHOWN,
    )
    title: str | None = option(None, "heading of the report", group="report", metavar="TEXT")
    train_log: tuple[str, ...] = option(
        (),
        "log of a training (--log-format json --log-file FILE), to be drawn; once for each",
        repeat=True,
        metavar="NAME=FILE",
        group="report",
    )

    def check(self) -> None:
        """Raise `UsageError` unless the logs of trainings are there."""
        named_files("train_log", self.train_log)


def writes_to(options: Options) -> Path:
    """The folder of figures, sheets and report."""
    return options.out or options.checkpoint.parent / "evaluation"


def run(options: Options) -> None:
    """Evaluate, draw and report."""
    from ..evaluation.training_log import TrainingLog
    from ..files import write_json
    from ..imaging.image_file import shown
    from ..imaging.report import SHEETS, table_and_notes, write_images_report

    start = time.monotonic()
    out = writes_to(options)
    # Before anything long begins: what the curves need may not be there.
    logs = {name: TrainingLog(path) for name, path in named_files("train_log", options.train_log).items()}
    if logs:
        from ..imaging.curves import draw_training
    again = (out / "images.json").is_file()
    result, draw = _evaluate(options, out)
    write_json(out / "images.json", result)
    drawn = draw(out)
    if logs and draw_training(logs, out / "training.png"):
        drawn.append("training.png")
    for name in (SHEETS.keys() - set(drawn)) if again else ():
        # Of an evaluation before, of which nothing else is left.
        (out / name).unlink(missing_ok=True)
    report = _report(options, out, result, time.monotonic() - start)
    write_images_report(report, out)
    print(table_and_notes(report))
    print(f"\n{shown(out)}: images.json, report.json, report.md, {', '.join(drawn)} written")


def _evaluate(options: Options, out: Path) -> tuple[dict[str, Any], Callable[[Path], list[str]]]:
    """The content of images.json, and what draws the sheets in a folder and names them."""
    import torch

    from ..imaging.evaluation import evaluate
    from ..imaging.image_file import shown
    from ..imaging.models import earlier_checkpoints, held_out, load_autoencoder, load_prior
    from ..imaging.reading import are_jpeg, open_split
    from ..imaging.sheets import draw_sheets, row_label, spread
    from ..machine import available_device, describe_machine, describe_versions

    device = available_device(options.cpu)
    model = load_autoencoder(options.checkpoint).to(device)
    prior = samples = None
    if options.prior is not None:
        prior = load_prior(options.prior, options.checkpoint, model).to(device)
        generator = torch.Generator(device).manual_seed(options.seed)
        samples = prior.sample(options.samples, options.temperature, generator)
    earlier = earlier_checkpoints(options.checkpoint, options.earlier_updates)
    if missing := [number for number in options.earlier_updates if number not in earlier]:
        print(
            f"vqnat images evaluate: no checkpoint_*_N.pt beside {shown(options.checkpoint)} for "
            f"--earlier-updates {' '.join(map(str, missing))}: left out of progress.png",
            file=sys.stderr,
        )
    course = [(row_label(path), load_autoencoder(path).to(device)) for path in earlier.values()]
    if course:
        course.append((row_label(options.checkpoint), model))
    cache = options.image_cache or out / "images"
    valid = options.valid_size
    if valid is None:
        valid = held_out(options.checkpoint, options.prior)
    images = open_split(options.data, options.gen_subset, model.image_size, cache, valid)
    result = {
        **evaluate(model, prior, images, options.batch_size),
        "checkpoint": shown(options.checkpoint),
        "prior": None if options.prior is None else shown(options.prior),
        "data": shown(options.data),
        "subset": options.gen_subset,
        "jpeg": are_jpeg(options.data),
        "seed": options.seed,
        "machine": describe_machine(),
        "versions": describe_versions(),
    }
    originals = spread(images, options.images).to(device)
    return result, partial(draw_sheets, model, originals, samples, course)


def _report(options: Options, out: Path, result: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The report, with the stages before this one that were run for the same folder."""
    from ..evaluation.report import own_command
    from ..imaging.image_file import shown
    from ..imaging.report import images_report
    from ..recipes.stages import Stages

    stages = Stages(out)
    before, commands = stages.before(PROGRAM)
    own = own_command(PROGRAM, options, {"OUT": out, "DATA": options.data})
    report = images_report(
        options.title or f"Images of '{options.gen_subset}'",
        {MODEL: [result]},
        [],
        {**before, "evaluate": round(seconds, 1)},
        [*commands, shown(own)],
        options.seed,
    )
    return {**report, "elsewhere": stages.elsewhere(before)}
