"""The translation model, the image autoencoder and the prior over its codes."""

# First of all: fairseq has to learn today's torch.
from .. import compat  # noqa: F401
