"""The output of fairseq-generate: its translations, and what it says of those that are not there."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from ..reading import read_lines

# Lines about a sentence.
MARKED = re.compile(r"[STHDP]-\d+\t")
SKIPS = "--skip-invalid-size-inputs-valid-test"
MULTIPLE = "--required-batch-size-multiple"
# What that is unless it is given; always fewer than so many sentences are left out.
USUAL_MULTIPLE = 8


def is_generated(lines: Sequence[str]) -> bool:
    """Whether lines are the output of fairseq-generate, and not plain text."""
    return any(MARKED.match(line) for line in lines)


def read_generated(path: Path, reference: Path | None = None, wanted: int | None = None) -> list[str]:
    """The best hypothesis of each sentence, detokenised, in the order of the test set.

    Args:
        path: output of `fairseq-generate`; its `D-` lines are read. With `--nbest` the first one counts.
        reference: what it is to be compared with.
        wanted: number of sentences of `reference`.

    Raises:
        DataError: a sentence is missing, occurs twice or is one too many, or there is none.
    """
    lines = read_lines(path)
    found = _hypotheses(path, lines)
    if wanted is not None and max(found) >= wanted:
        raise DataError(
            f"{reference}: {wanted} lines, but {path} holds {max(found) + 1} sentences; is it the reference "
            "of this test set?"
        )
    missing = [number for number in range(wanted or max(found) + 1) if number not in found]
    if missing:
        shown = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        why = _Run.read(lines).explain(len(found), missing, reference)
        raise DataError(f"{path}: {len(missing)} sentences missing ({shown}): {why}")
    return [found[number] for number in sorted(found)]


def _hypotheses(path: Path, lines: Sequence[str]) -> dict[int, str]:
    """The first hypothesis of each sentence by its number."""
    hypotheses: dict[int, str] = {}
    current = None
    for line in lines:
        # A source line opens the block of a sentence, also of one that has been there before.
        if line.startswith("S-"):
            current = None
        if not line.startswith("D-"):
            continue
        name, *fields = line.split("\t", 2)
        if not re.fullmatch("[0-9]+", name[2:]) or len(fields) != 2:
            raise DataError(f"{path}: not a line of fairseq-generate (cut off?): {line[:80]!r}")
        number = int(name[2:])
        if number == current:
            continue
        if number in hypotheses:
            raise DataError(f"{path}: sentence {number} occurs twice; is this the output of one run?")
        current = number
        hypotheses[number] = fields[1]
    if not hypotheses:
        raise DataError(f"{path}: no 'D-' lines; is it the output of fairseq-generate, without --quiet?")
    return hypotheses


@dataclass(frozen=True)
class _Run:
    """What the log among the output says; None where it says nothing.

    Attributes:
        multiple: of `--required-batch-size-multiple`.
        skips: whether sentences of invalid sizes are skipped.
        parts: in how many the test set was decoded, this being one of them; 1 where it says nothing.
        loaded: sentences of the test set.
        skipped: sentences that were skipped.
        translated: sentences, once the run has ended.
    """

    multiple: int | None
    skips: bool | None
    parts: int
    loaded: int | None
    skipped: int | None
    translated: int | None

    @classmethod
    def read(cls, lines: Sequence[str]) -> "_Run":
        log = "\n".join(line for line in lines if not MARKED.match(line))

        def last(pattern: str) -> str | None:
            return (re.findall(pattern, log) or [None])[-1]

        def number(pattern: str) -> int | None:
            found = last(pattern)
            return None if found is None else int(found.replace(",", ""))

        skips = last(r"\bskip_invalid_size_inputs_valid_test'?[:=] ?(True|False)")
        return cls(
            multiple=number(r"\brequired_batch_size_multiple'?[:=] ?(\d+)"),
            skips=None if skips is None else skips == "True",
            parts=number(r"\bdistributed_world_size'?[:=] ?(\d+)") or 1,
            loaded=number(r"\bloaded ([\d,]+) examples from\b"),
            skipped=number(r"\b([\d,]+) samples have invalid sizes and will be skipped\b"),
            translated=number(r"\bTranslated ([\d,]+) sentences\b"),
        )

    def explain(self, found: int, missing: Sequence[int], reference: Path | None) -> str:
        """Why sentences are missing: what the log accounts for, and what else it may be.

        Args:
            found: number of sentences that are there.
            missing: numbers of those that are not.
            reference: what asks for them; None where only gaps do.
        """
        accounts = [
            (count, why) for count, why in self._accounts(found, len(missing), reference) if count > 0
        ]
        known = [why for _, why in accounts]
        unexplained = len(missing) - sum(count for count, _ in accounts)
        if unexplained <= 0:
            return "; ".join(known)
        # Gaps are not for want of sentences in the test set.
        possible = self._possible(unexplained, reference if missing[0] == found else None)
        if not possible:
            return "; ".join([*known, "the output does not say why"])
        return "; ".join([*known, f"perhaps {', or '.join(possible)}"])

    def _accounts(self, found: int, missing: int, reference: Path | None) -> Iterator[tuple[int, str]]:
        """What is sure: how many sentences are missing, and why."""
        if self.loaded is not None:
            yield (
                found + missing - self.loaded,
                f"the test set has {self.loaded}, but {reference} {found + missing}; is it the reference of "
                "this test set?",
            )
        if self.skipped is not None:
            yield (
                self.skipped,
                f"{self.skipped} are longer than the model reads, and {SKIPS} left them out; leave them out "
                "of test set and reference, or take a model that reads them",
            )
        if self.translated is None:
            return
        yield (
            self.translated - found,
            f"the run translated {self.translated}, so its output was cut off or changed later",
        )
        if self.loaded is not None:
            left_out = self.loaded - (self.skipped or 0) - self.translated
            if self.parts > 1:
                yield left_out, f"this is one of {self.parts} parts (--distributed-world-size); join them"
            elif self.multiple is not None and self.multiple > 1:
                yield (
                    left_out,
                    f"fairseq left out {left_out} in an incomplete last batch; generate again with "
                    f"{MULTIPLE} 1",
                )

    def _possible(self, missing: int, reference: Path | None) -> list[str]:
        """What else it may be, by what the log leaves open."""
        possible = []
        if self.translated is None:
            possible.append("the run was cut short (no line 'Translated ... sentences')")
        if self.loaded is None or self.translated is None:
            if self.parts > 1:
                possible.append(f"this is one of {self.parts} parts (--distributed-world-size)")
            if self.skips is not False and self.skipped is None:
                possible.append(f"{SKIPS} {'left out long ones' if self.skips else 'was given'}")
            if missing < (self.multiple or USUAL_MULTIPLE):
                given = f" but {self.multiple}" if self.multiple else ""
                possible.append(f"{MULTIPLE} was not 1{given}, so that an incomplete last batch was left out")
        if reference is not None and self.loaded is None:
            possible.append(f"{reference} is not the reference of this test set")
        return possible
