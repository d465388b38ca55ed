"""Translate raw text with an exported model, a line for a line; needs neither torch nor fairseq.

Text is UTF-8 and treated as the training text was. Lines that are there at the same time are sorted by length
and translated in batches; translations come in the order of the lines, and an empty line stays empty. A line
that is typed is answered at once. A file makes the same batches, and translations, whatever --jobs is; other
batches may change a word of a model in int8, which rounds by batch; in fp32 only where two are as probable
to six digits.

A line that is longer than the model reads, or not UTF-8, ends the command with status 2. The translations of
the lines before are on standard output by then; the file of --output appears whole or not at all. With
--split-sentences no line is too long: its sentences are translated one by one and make one line again. A
sentence that is longer than nearly all of the training is halved between words until its parts are not, which
a note on standard error says; without --split-sentences a note says that much of it may be missing.

With --n-best the lines have four columns, with tabs between them: number of the line (from 1), rank, score
(natural logarithm, by the length), text. Candidates often have the same text, and then the best of them is
written: there may be fewer.

  vqnat export runs/student --out exported
  vqnat translate exported --input text.en --output text.de --jobs 4
  echo 'A man sleeps.' | vqnat translate exported
  vqnat translate exported --candidates 4 --n-best 2 < text.en | cut -f 1,3,4
"""

from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

from ..errors import UsageError
from ..line_filter import AnswerBlock, Input, check_files, in_turn, run_filter
from ..options import FILE, FOLDER, MOST_BEAM, MOST_PROCESSES, option
from ..runtime.decoding import Decoding

# A filter has nothing to say about it.
INTERRUPTED = ""


@dataclass(kw_only=True)
class Options(Decoding):
    """Options of `vqnat translate`."""

    model: Path = option(..., "folder that vqnat export wrote", positional=True, exists=FOLDER, metavar="DIR")
    input: str = option("-", "raw text, a sentence a line; - for standard input", metavar="FILE")
    output: Path | None = option(
        None, "where the translations go (default: standard output)", metavar="FILE", writes=FILE
    )
    n_best: int | None = option(
        None,
        "write so many of the candidates of each line, with line, rank and score",
        least=1,
        most=MOST_BEAM,
    )
    split_sentences: bool = option(
        False, "lines may have several sentences, and more text than the model reads at once"
    )
    jobs: int = option(1, "processes; each has the model in memory", least=1, most=MOST_PROCESSES)
    threads: int = option(1, "threads a computation of a process may use", least=1, most=MOST_PROCESSES)

    def check(self) -> None:
        """Raise `UsageError` for files that are not there, or options that do not go together."""
        super().check()
        check_files(self.input, self.output)
        if self.rescore and self.candidates == 1 and self.n_best is None:
            raise UsageError(
                "--rescore: one candidate leaves nothing to choose; needs --candidates 2 or more"
            )
        if self.n_best is not None and self.n_best > self.candidates:
            raise UsageError(f"--n-best {self.n_best}: needs --candidates of as much, or more")
        if self.n_best is not None and self.n_best > 1 and self.verify:
            raise UsageError(f"--n-best {self.n_best}: --verify leaves one translation, leave --n-best out")
        if self.n_best is not None and self.split_sentences:
            raise UsageError(f"--n-best {self.n_best}: goes by sentences, leave --split-sentences out")


def run(options: Options) -> None:
    """Translate."""
    source = Input(options.input)
    decoding = Decoding(**{each.name: getattr(options, each.name) for each in fields(Decoding)})
    make = partial(
        translator, options.model, options.threads, decoding, options.n_best, options.split_sentences
    )
    write = partial(
        run_filter,
        "vqnat translate",
        source,
        options.output,
        unit="line" if options.split_sentences else "sentence",
    )
    if options.jobs == 1:
        write(in_turn(make()))
        return
    from ..runtime.workers import Workers

    with Workers(options.jobs, make) as workers:
        write(workers.answers)


def translator(
    model: Path, threads: int, decoding: Decoding, n_best: int | None, split_sentences: bool
) -> AnswerBlock:
    """What answers a block of lines; see `LineTranslator`."""
    from ..runtime.line_translator import LineTranslator

    return LineTranslator(model, threads, decoding, n_best, split_sentences).answer
