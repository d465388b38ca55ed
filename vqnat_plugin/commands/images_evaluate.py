"""How well does a trained vq_vae_em describe pictures? Bits a dimension, use of its codes, and pictures.

Prints a table and writes images.json, images.md, reconstructions.png (originals over reconstructions),
codes.png (every code at all places of the grid), with --prior samples.png, with --earlier progress.png.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError, DataError
from ..files import write_json, write_text
from ..imaging.reading import open_split
from ..machine import describe_machine, describe_versions
from ..tasks.image_vq import load_autoencoder
from .evaluate import evaluate, table
from .models import load_prior
from .pictures import save_codes, save_progress, save_reconstructions, save_samples

PROGRESS_COLUMNS = 8


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="evaluate_images.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def add(flag: str, text: str, default: Any = None, kind: Any = Path, **more: Any) -> None:
        text = text if default in (None, []) else f"{text} (default: %(default)s)"
        parser.add_argument(flag, type=kind, default=default, help=text, **more)

    add("checkpoint", "the trained autoencoder", metavar="CHECKPOINT")
    add("--data", "folder of pictures", required=True, metavar="DIR")
    add("--prior", "the prior over its codes", metavar="CHECKPOINT")
    add("--subset", "which pictures", "test", str, choices=["train", "valid", "test"])
    add("--valid-size", "pictures held out, as in training", 2000, int, metavar="N")
    earlier = "checkpoints of the same training, from the earliest on, for progress.png"
    add("--earlier", earlier, [], nargs="+", metavar="CHECKPOINT")
    add("--pictures", "reconstructions shown", 32, int, metavar="N")
    add("--samples", "samples of the prior shown", 64, int, metavar="N")
    add("--temperature", "of the samples", 1.0, float, metavar="X")
    add("--batch-size", "pictures at a time", 100, int, metavar="N")
    add("--seed", "of the samples", 1, int)
    add("--image-cache", "folder of decoded pictures (default: 'images' in --out)", metavar="DIR")
    add("--out", "folder to write to (default: evaluation beside CHECKPOINT)", metavar="DIR")
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU")
    options = parser.parse_args()
    for name in ("pictures", "samples", "batch_size"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(options, name)}: needs at least 1")
    if options.temperature <= 0:
        parser.error(f"--temperature {options.temperature}: needs a value above 0")
    return options


def main() -> None:
    options = parse()
    out = options.out or options.checkpoint.parent / "evaluation"
    device = torch.device("cuda" if torch.cuda.is_available() and not options.cpu else "cpu")
    try:
        model, size = load_autoencoder(options.checkpoint)
        earlier = [load_autoencoder(path)[0].to(device) for path in options.earlier]
        prior = None
        if options.prior is not None:
            prior = load_prior(options.prior, options.checkpoint, model).to(device)
    except (DataError, CheckpointError) as error:
        sys.exit(f"evaluate_images: {error}")
    model.to(device)
    images = open_split(
        options.data, options.subset, size, options.image_cache or out / "images", options.valid_size
    )
    result = evaluate(model, prior, images, options.batch_size)
    result |= {
        "checkpoint": str(options.checkpoint),
        "prior": None if prior is None else str(options.prior),
        "data": str(options.data),
        "subset": options.subset,
        "seed": options.seed,
        "machine": describe_machine(),
        "versions": describe_versions(),
    }
    # Spread over the subset, so that all classes of a folder are seen.
    chosen = torch.linspace(0, len(images) - 1, min(options.pictures, len(images))).long().unique().numpy()
    shown = torch.from_numpy(images[chosen].copy()).to(device)
    made = ["reconstructions.png", "codes.png"]
    save_reconstructions(model, shown, out / "reconstructions.png")
    save_codes(model, out / "codes.png")
    if prior is not None:
        save_samples(model, prior, out / "samples.png", options.samples, options.temperature, options.seed)
        made.append("samples.png")
    if earlier:
        save_progress([*earlier, model], shown[:PROGRESS_COLUMNS], out / "progress.png")
        made.append("progress.png")
    figures = table(result)
    write_json(out / "images.json", result)
    links = "\n\n".join(f"![{name}]({name})" for name in made)
    write_text(out / "images.md", f"# Pictures of '{options.subset}'\n\n{figures}\n\n{links}\n")
    print(figures)
    print(f"\n{out}: images.json, images.md, {', '.join(made)} written")


if __name__ == "__main__":
    main()
