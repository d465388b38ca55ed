"""fairseq's tasks: translation and images."""

# First of all: fairseq has to learn today's torch.
from .. import compat  # noqa: F401
