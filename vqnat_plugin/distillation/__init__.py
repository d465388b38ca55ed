"""Sequence-level distillation: a teacher's translations as training targets, in shards, resumable."""

from .filters import Filters
from .run import distill
from .settings import DistillationError, Search, Settings, Share

__all__ = ["DistillationError", "Filters", "Search", "Settings", "Share", "distill"]
