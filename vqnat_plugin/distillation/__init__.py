"""Sequence-level distillation: a teacher's translations as training targets, in shards, resumable."""

from ..errors import DataError
from .filters import Filters
from .run import distill
from .settings import Search, Settings, Share

__all__ = ["DataError", "Filters", "Search", "Settings", "Share", "distill"]
