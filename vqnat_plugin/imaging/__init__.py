"""All about images: reading them, models of them, bits a dimension, and codes as files."""

# First of all: fairseq has to learn today's torch.
from .. import compat  # noqa: F401
