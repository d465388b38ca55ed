"""One HTML page of an inspection: opens from disk, needs no network, can be searched."""

import json
from importlib import resources
from typing import Any

PLACE = "/*INSPECTION*/null"


def render(inspection: dict[str, Any]) -> str:
    """The page, with all data inside it."""
    template = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    # A text may hold what ends a script.
    data = json.dumps(inspection, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return template.replace(PLACE, data)
