#!/usr/bin/env python3
"""Make a small English-German corpus: seeded, grammatical, with several right translations of each sentence.

Writes train, valid and test as SPLIT.en and SPLIT.de, and the other right translations of the test set as
test.de.1, test.de.2, ...

Each source sentence has up to twelve valid translations. Which one the corpus shows is drawn at random, but
all at once: register, tense and word order hold for the whole sentence. A model that predicts each word by
itself mixes them; a teacher's distilled text, or a latent variable, decides first. A score against one
reference is therefore bounded far below 100; the fair one uses all of them.
"""

import argparse
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from toy_grammar import STYLES, Clause, NounPhrase, Sentence, Style, english, german, translations
from toy_lexicon import (
    ADJECTIVES,
    CONJUNCTIONS,
    MANNERS,
    MODALS,
    NOUNS,
    PREPOSITIONS,
    SPEECH_VERBS,
    TIMES,
    VERBS,
    Noun,
    Phrase,
    Verb,
)

from vqnat_plugin.files import write_lines

MIN_WORDS, MAX_WORDS = 4, 18
THAT = Phrase("that", ("dass",) * 3)
# Near a tie, so that the majority of the modes is another mode in almost every sentence.
REGISTER_WEIGHTS = (0.4, 0.35, 0.25)
PERFECT_SHARE = 0.45
FRONTED_SHARE = 0.45

T = TypeVar("T")


@dataclass(frozen=True)
class Example:
    """A meaning and the style in which the corpus shows its translation."""

    sentence: Sentence
    style: Style

    @property
    def source(self) -> str:
        return english(self.sentence)

    @property
    def target(self) -> str:
        return german(self.sentence, self.style)

    def references(self) -> tuple[str, ...]:
        """All valid translations, `target` first."""
        return tuple(dict.fromkeys((self.target, *translations(self.sentence))))


class Sampler:
    """Draws meanings and styles with one random state."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.nouns: dict[str, list[Noun]] = {}
        for noun in NOUNS:
            self.nouns.setdefault(noun.kind, []).append(noun)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def choose(self, items: Iterable[T]) -> T:
        return self.random.choice(list(items))

    def example(self) -> Example:
        """A sentence all of whose translations have between `MIN_WORDS` and `MAX_WORDS` words."""
        while True:
            sentence = self.sentence()
            texts = (english(sentence), *translations(sentence))
            if all(MIN_WORDS <= len(text.split()) <= MAX_WORDS for text in texts):
                return Example(sentence, self.style())

    def style(self) -> Style:
        register = self.random.choices(range(3), REGISTER_WEIGHTS)[0]
        return Style(register, self.chance(PERFECT_SHARE), self.chance(FRONTED_SHARE))

    def sentence(self) -> Sentence:
        past = self.chance(0.65)
        kind = self.random.random()
        if kind < 0.15:
            main = Clause(self.person(), self.choose(SPEECH_VERBS), past)
            return Sentence(main, THAT, self.clause(past, rich=False))
        if kind < 0.4:
            conjunction = self.choose(CONJUNCTIONS["past" if past else "present"])
            return Sentence(self.clause(past, rich=False), conjunction, self.clause(past, rich=False))
        return Sentence(self.clause(past, rich=True))

    def clause(self, past: bool, rich: bool) -> Clause:
        """A clause with subject; `rich` ones have more adverbials and relative clauses."""
        verb = self.choose(VERBS)
        subject = self.subject(verb, past, relative=rich and self.chance(0.2))
        return Clause(
            subject,
            verb,
            past,
            objects=self.objects(verb),
            time=self.choose(TIMES["past" if past else "present"])
            if self.chance(0.6 if rich else 0.25)
            else None,
            manner=self.choose(MANNERS) if verb.objects and self.chance(0.15) else None,
            place=self.place() if self.chance(0.4 if rich else 0.15) else None,
            modal=self.choose(MODALS) if self.chance(0.12) else None,
        )

    def subject(self, verb: Verb, past: bool, relative: bool) -> NounPhrase:
        if not relative:
            return self.person() if verb.objects or self.chance(0.7) else self.noun_phrase("animal")
        other = self.choose(VERBS)
        return self.noun_phrase("person", Clause(None, other, past, self.objects(other)))

    def person(self) -> NounPhrase:
        if self.chance(0.2):
            pronoun = self.choose(("he", "she", "we", "they"))
            return NounPhrase(pronoun, plural=pronoun in ("we", "they"))
        return self.noun_phrase("person")

    def objects(self, verb: Verb) -> tuple[NounPhrase, ...]:
        return tuple(self.noun_phrase(self.choose(kinds.split())) for kinds in verb.objects)

    def place(self) -> tuple[Phrase, NounPhrase]:
        determiner = self.choose(("the", "the", "the", "a", "this", "our"))
        return self.choose(PREPOSITIONS), self.noun_phrase("place", determiner=determiner)

    def noun_phrase(
        self, kind: str, relative: Clause | None = None, determiner: str | None = None
    ) -> NounPhrase:
        plural = determiner is None and self.chance(0.3)
        if determiner is None:
            common = ("the", "the", "the", "this", "my", "our", "no")
            determiner = self.choose((*common, "two", "three") if plural else (*common, "a", "a", "every"))
        adjective = None
        if self.chance(0.35):
            adjective = self.choose(ADJECTIVES["any"] + ADJECTIVES.get(kind, []))
        return NounPhrase(determiner, plural, self.choose(self.nouns[kind]), adjective, relative)


def generate(seed: int, sizes: dict[str, int]) -> dict[str, list[Example]]:
    """Draw a corpus in which no source sentence occurs twice, within a split or across splits.

    Args:
        seed: of the random state; the same seed and sizes give the same corpus everywhere.
        sizes: sentences of each split. They are drawn in this order, so that what comes first does not depend
            on the sizes of what follows.
    """
    sampler = Sampler(seed)
    seen: set[str] = set()
    corpus = {}
    for split, size in sizes.items():
        examples: list[Example] = []
        while len(examples) < size:
            example = sampler.example()
            if example.source not in seen:
                seen.add(example.source)
                examples.append(example)
        corpus[split] = examples
    return corpus


def write_corpus(out: Path, corpus: dict[str, list[Example]], references: int = len(STYLES)) -> list[Path]:
    """Write `SPLIT.en` and `SPLIT.de` as ordinary text, one sentence a line, and the references of `test`.

    `test.de` is the first of `references`; `test.de.1` and so on hold the other valid translations. Where a
    sentence has fewer, they are repeated, which leaves a multi-reference score as it is.

    Returns:
        The files written, each atomically.
    """
    files: dict[str, list[str]] = {}
    for split, examples in corpus.items():
        files[f"{split}.en"] = [example.source for example in examples]
        files[f"{split}.de"] = [example.target for example in examples]
    valid = [example.references() for example in corpus.get("test", [])]
    for number in range(1, references):
        files[f"test.de.{number}"] = [texts[number % len(texts)] for texts in valid]
    paths = []
    for name, lines in files.items():
        write_lines(out / name, lines)
        paths.append(out / name)
    return paths


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--seed", type=int, default=1, help="random seed (default: %(default)s)")
    for split, size in (("train", 20000), ("valid", 500), ("test", 500)):
        parser.add_argument(
            f"--{split}", type=int, default=size, metavar="N", help="sentence pairs (default: %(default)s)"
        )
    parser.add_argument(
        "--references",
        type=int,
        default=len(STYLES),
        metavar="N",
        help="right translations of test, with test.de (default: %(default)s, all that differ)",
    )
    options = parser.parse_args()
    for name in ("train", "valid", "test", "references"):
        value = getattr(options, name)
        if value < 1:
            parser.error(f"--{name} {value}: needs at least 1")
    if options.out.exists() and not options.out.is_dir():
        parser.error(f"--out {options.out}: is not a folder")
    return options


def main() -> None:
    options = parse()
    # Small splits first: they stay the same whatever the size of train.
    sizes = {split: getattr(options, split) for split in ("test", "valid", "train")}
    write_corpus(options.out, generate(options.seed, sizes), options.references)
    print(
        f"{options.out}: {options.train} sentence pairs for train, {options.valid} for valid, "
        f"{options.test} for test with {options.references} references"
    )


if __name__ == "__main__":
    main()
