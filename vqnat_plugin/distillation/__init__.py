"""Sequence-level distillation: a teacher's translations as training targets, in shards, resumable.

`settings` is light; `run.distill` does it.
"""
