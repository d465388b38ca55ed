"""Vector quantisation with a codebook that is trained by EM, and its baselines. Plain torch: usable without
fairseq.
"""

from .codebook import EMCodebook, perplexity, usage
from .gradient import GradientQuantizer
from .gumbel import GumbelQuantizer
from .quantizer import EMVectorQuantizer, QuantizerOutput

__all__ = [
    "EMCodebook",
    "EMVectorQuantizer",
    "GradientQuantizer",
    "GumbelQuantizer",
    "QuantizerOutput",
    "perplexity",
    "usage",
]
