"""Latent search, words, candidates, rescoring and verification, for fairseq."""

# First of all: fairseq has to learn today's torch.
from .. import compat  # noqa: F401
