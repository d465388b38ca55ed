"""Non-autoregressive translation with vector-quantised latents trained by EM (Roy et al., 2018), for fairseq."""

from . import compat

__version__ = "0.1.0"

compat.install()
