"""Show what the codes of a trained vq_nat_em stand for.

Writes codes.html, a page that opens from disk (use of each code, the words and positions it stands for, its
neighbours, examples, a map of the codebook; searchable), and the same as codes.json.
"""

from dataclasses import dataclass
from pathlib import Path

from ..analysis.options import AnalysisOptions
from ..options import FOLDER, MOST_SEED, option


@dataclass(kw_only=True)
class Options(AnalysisOptions):
    """Options of `vqnat inspect`."""

    gen_subset: str = option("train", "split to look at", metavar="SPLIT")
    sentences: int = option(5000, "at most so many, drawn at random", least=1)
    seed: int = option(1, "of the draw and of the map", least=0, most=MOST_SEED)
    out: Path | None = option(
        None, "folder to write to; 'codes' beside the checkpoint by default", metavar="DIR", writes=FOLDER
    )


def writes_to(options: Options) -> Path:
    """The folder of the page."""
    return options.out or options.checkpoint.parent / "codes"


def run(options: Options) -> None:
    """Inspect, write, and show the most used codes."""
    from ..analysis.codes import inspect
    from ..analysis.page import render
    from ..files import write_json, write_text
    from ..machine import available_device

    out = writes_to(options)
    found = inspect(
        options.checkpoint,
        options.data,
        options.gen_subset,
        options.sentences,
        batch_size=options.batch_size,
        seed=options.seed,
        device=available_device(options.cpu),
    )
    write_json(out / "codes.json", found)
    write_text(out / "codes.html", render(found))
    print(
        f"{found['usage']:.1%} of {found['codebook_size']} codes used, perplexity {found['perplexity']:.1f}, "
        f"in {found['sentences_seen']} sentences of {options.gen_subset}"
    )
    for code in sorted(found["codes"], key=lambda code: -code["count"])[:10]:
        texts = ", ".join(f"'{text}' ({count})" for text, count in code["segments"][:5])
        print(f"code {code['code']:>5}  {code['count']:>6} times  {texts}")
    print(f"{out}: codes.html and codes.json written")
