"""Small archives in the layout of the public ones."""

import io
import random
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

SETS = ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012")


def sentence_pairs(count: int, seed: int) -> list[tuple[str, str]]:
    """Sentences of a few words that a model can learn to translate word by word."""
    rng = random.Random(seed)
    words = {"one": "eins", "two": "zwei", "red": "rot", "green": "grün", "house": "Haus", "tree": "Baum"}
    chosen = [rng.choices(list(words.items()), k=rng.randint(3, 9)) for _ in range(count)]
    return [(" ".join(a for a, _ in row) + ".", " ".join(b for _, b in row) + ".") for row in chosen]


def lines(pairs: Sequence[tuple[str, str]], side: int) -> str:
    return "".join(pair[side] + "\n" for pair in pairs)


def sgml(pairs: Sequence[tuple[str, str]], side: int) -> str:
    """A test set as WMT has it: SGML in its letter-case and its lack of a root's header."""
    kind = ("srcset", "refset")[side]
    segments = "".join(f'<seg id="{n}">{pair[side]}</seg>\n' for n, pair in enumerate(pairs, start=1))
    return (
        f'<{kind} setid="newstest2014" srclang="any" trglang="de">\n<doc sysid="ref" docid="1">\n'
        f"<hl>\n{segments}</hl>\n<p>\n</p>\n</doc>\n</{kind}>\n"
    )


def xml(pairs: Sequence[tuple[str, str]], side: int) -> str:
    """A test set as IWSLT has it."""
    segments = "".join(f'<seg id="{n}"> {pair[side]} </seg>\n' for n, pair in enumerate(pairs, start=1))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<mteval>\n<refset setid="iwslt2014" srclang="de">\n'
        '<doc docid="1" genre="lectures">\n<url>http://example.org</url>\n<title>A title &amp; more</title>\n'
        f"{segments}</doc>\n</refset>\n</mteval>\n"
    )


def tagged(pairs: Sequence[tuple[str, str]], side: int) -> str:
    """A talk of IWSLT's training text."""
    name = ("Von Häusern", "On houses")[side]
    head = "<url>http://example.org</url>\n<keywords>a, b</keywords>\n<talkid>1</talkid>\n"
    titles = f"<title>{name}</title>\n<description>{name} &amp; more</description>\n"
    return head + titles + lines(pairs, side)


def write_archive(path: Path, members: Mapping[str, str | bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, text in members.items():
            entry = tarfile.TarInfo(name)
            content = text.encode() if isinstance(text, str) else text
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def wmt14(folder: Path, train: int = 30, held: int = 5) -> None:
    """The archives of WMT14 En-De: `train` pairs in each of three parts, `held` for valid and for test."""
    for seed, (archive, stem) in enumerate(
        (
            ("training-parallel-europarl-v7.tgz", "training/europarl-v7.de-en"),
            ("training-parallel-commoncrawl.tgz", "commoncrawl.de-en"),
            ("training-parallel-nc-v9.tgz", "training/news-commentary-v9.de-en"),
        )
    ):
        pairs = sentence_pairs(train, seed)
        # Other languages come first, as in the real archives.
        members = {"training/europarl-v7.cs-en.cs": "jedna\n"}
        members |= {f"{stem}.{language}": lines(pairs, side) for side, language in enumerate(("en", "de"))}
        write_archive(folder / archive, members)
    valid, test = sentence_pairs(held, 10), sentence_pairs(held, 11)
    write_archive(
        folder / "dev.tgz",
        {f"dev/newstest2013.{language}": lines(valid, side) for side, language in enumerate(("en", "de"))},
    )
    write_archive(
        folder / "test-full.tgz",
        {
            "test-full/newstest2014-deen-src.en.sgm": sgml(test, 0),
            "test-full/newstest2014-deen-ref.de.sgm": sgml(test, 1),
        },
    )


def iwslt14(folder: Path, train: int = 90, held: int = 5) -> None:
    """The archive of IWSLT14 De-En: one talk of `train` pairs, and five test sets of `held` in all."""
    pairs = [(german, english) for english, german in sentence_pairs(train, 1)]
    members = {
        f"de-en/train.tags.de-en.{language}": tagged(pairs, side)
        for side, language in enumerate(("de", "en"))
    }
    for number, name in enumerate(SETS):
        share = sentence_pairs(held, 11)[number * held // 5 : (number + 1) * held // 5]
        test = [(german, english) for english, german in share]
        for side, language in enumerate(("de", "en")):
            members[f"de-en/IWSLT14.{name}.de-en.{language}.xml"] = xml(test, side)
    write_archive(folder / "de-en.tgz", members)
