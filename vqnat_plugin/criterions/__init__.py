"""fairseq's criterions: what the models return, summed and logged."""

# First of all: fairseq has to learn today's torch.
from .. import compat  # noqa: F401
