"""YAML that is data and nothing else: no references, nothing from outside the file, of limited size."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from ..errors import DataError
from ..reading import read_text

# Far above what a person writes. PyYAML takes about ten seconds for a megabyte.
MOST_BYTES = 200_000
DEEPEST = 20


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without references and with one value a key."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        mark = self.peek_event().start_mark
        # A few references to references are gigabytes.
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="references (*name) are not read", problem_mark=mark)
        if self.depth == DEEPEST:
            raise yaml.MarkedYAMLError(problem=f"nested more than {DEEPEST} deep", problem_mark=mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            # 1 and "1" too: both become the same name.
            key = str(key_node.value)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"'{key}' stands twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """The content of a YAML file: mappings, lists, texts, numbers, truth values.

    Raises:
        DataError: the file cannot be read, is too large, nested too deeply, not YAML, or has references.
    """
    text = read_text(path)
    if len(text.encode()) > MOST_BYTES:
        raise DataError(f"{path}: larger than {MOST_BYTES:,} bytes")
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: {getattr(error, 'problem', '')}" if mark else str(error)
        raise DataError(f"{path}: not YAML that can be read ({' '.join(where.split())})") from None
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        # PyYAML's own conversions let these through: a thirteenth month, a number of 5,000 digits.
        raise DataError(f"{path}: a value that cannot be read ({error})") from None
