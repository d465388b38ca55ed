"""Reading files with clear errors."""

import json
from pathlib import Path
from typing import Any


class EvaluationError(ValueError):
    """Something to be evaluated is missing, broken or inconsistent; the message says what to do."""


def read_text(path: Path) -> str:
    """The text of a UTF-8 file.

    Raises:
        EvaluationError: the file is missing or not UTF-8.
    """
    try:
        # newline="": carriage returns inside a line stay what they are.
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except OSError as error:
        raise EvaluationError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise EvaluationError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file. Only a line feed ends a line: other separators occur inside sentences."""
    text = read_text(path)
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        EvaluationError: the file is missing, not JSON, or holds something else than an object.
    """
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise EvaluationError(f"{path}: not JSON ({error})") from None
    if not isinstance(content, dict):
        raise EvaluationError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content
