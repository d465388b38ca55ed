"""What the processes of `Workers` do in tests. Light, as each of them imports it anew."""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from vqnat_plugin.errors import UsageError
from vqnat_plugin.line_filter import Answer, AnswerBlock


def shouting() -> AnswerBlock:
    """Answers in capitals; some words have consequences."""

    def answer(lines: Sequence[str], before: int) -> Answer:
        if "die" in lines:
            os.kill(os.getpid(), signal.SIGKILL)
        if "lack" in lines:
            raise ModuleNotFoundError("no", name="sacremoses")
        if "fail" in lines:
            raise SystemExit(3)
        error = UsageError(f"line {before + 1} is ill") if "ill" in lines else None
        return Answer(
            [f"{before + i} {line.upper()}" for i, line in enumerate(lines, 1)], len(lines), error=error
        )

    return answer


def unready(error: Exception) -> AnswerBlock:
    """Meets an error at once."""
    raise error


def modules(model: Path) -> AnswerBlock:
    """Translates, and answers with what it has loaded for that."""
    from vqnat_plugin.runtime.decoding import Decoding
    from vqnat_plugin.runtime.line_translator import LineTranslator

    translate = LineTranslator(model, 1, Decoding()).answer

    def answer(lines: Sequence[str], before: int) -> Answer:
        return Answer([*translate(lines, before).lines, *sys.modules], len(lines))

    return answer
