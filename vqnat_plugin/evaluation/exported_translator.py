"""A system that is an exported model, decoded by this project's own runtime on the CPU."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import DataError, UserError
from ..runtime.decoding import Decoding
from ..runtime.translator import Translator
from .parts import Clock, Watched
from .subset_translator import Engines, SubsetTranslator, plain_task, require_symbols
from .systems import Conditions, System

ENGINES = Engines()


def check(
    systems: Sequence[System], data: Path, languages: tuple[str | None, str | None]
) -> tuple[str | None, str | None]:
    """See `kinds`; loads each folder once."""
    known: dict[str, Translator] = {}
    for system in systems:
        options = _decoding(system)
        [folder] = system.checkpoints
        try:
            known[folder] = translator = known.get(folder) or Translator(folder)
            translator.check(options)
        except UserError as error:
            raise type(error)(f"system {system.name}: {error}") from None
        exported = translator.exported
        found = (languages[0] or exported.source, languages[1] or exported.target)
        if found != (exported.source, exported.target):
            raise DataError(
                f"system {system.name}: translates {exported.source}-{exported.target}, but {data} is to be "
                f"read as {'-'.join(found)}; check --source-lang and --target-lang"
            )
        languages = found
        task = plain_task(data, languages)
        require_symbols(system, "source", translator.source.symbols, task.source_dictionary)
        require_symbols(system, "target", translator.target.symbols, task.target_dictionary)
    return languages


def _decoding(system: System) -> Decoding:
    """How a system decodes; `beam` is fairseq's name for the number of candidates."""
    options = dict(system.options)
    beam = options.pop("beam")
    return system.typed(Decoding, "an exported model", **{"candidates": beam, **options})


class ExportedTranslator(SubsetTranslator):
    """An exported model that is loaded."""

    latent = True

    def __init__(self, system: System, conditions: Conditions, threads: int) -> None:
        """Load the model and the subset.

        Args:
            system: whose folder has been checked.
            conditions: with the languages.
            threads: how many ONNX Runtime may use, 0 for all.

        Raises:
            DataError: see `SubsetTranslator`; or a sentence is longer than the model reads.
        """
        [folder] = system.checkpoints
        self.engine: Translator = ENGINES.get((folder, threads), lambda: Translator(folder, threads))
        self.options = _decoding(system)
        task = plain_task(conditions.data, (conditions.source_lang, conditions.target_lang))
        super().__init__(system, conditions, task, self.engine.exported.precision)
        self.require_length(self.engine.exported.longest)

    def prepare(self, sentences: Sequence[int]) -> list[list[int]]:
        """Token ids of the sources, each ended by EOS."""
        return [self.source(number) for number in sentences]

    def translate(self, batch: list[list[int]]) -> list[list[int]]:
        """Token ids of the best translations, in order."""
        found = [every[0] for every in self.engine.decode(batch, self.options, scores=False)]
        if self.options.verify:
            self.passes += [best.passes for best in found]
        return [best.tokens for best in found]

    @contextmanager
    def watched(self, clock: Clock) -> Iterator[None]:
        """Let a clock see what each part takes."""
        names = ["graphs", *["teacher"] * (self.options.rescore or self.options.verify)]
        parts = {name: getattr(self.engine, name) for name in names}
        for name, part in parts.items():
            setattr(self.engine, name, Watched(part, clock))
        try:
            yield
        finally:
            for name, part in parts.items():
                setattr(self.engine, name, part)


load = ExportedTranslator
