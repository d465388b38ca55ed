"""Vector quantisation with a codebook that is trained by EM, and its baseline. Plain torch: usable without
fairseq.
"""

from .codebook import EMCodebook, perplexity, usage
from .gumbel import GumbelQuantizer
from .quantizer import EMVectorQuantizer, QuantizerOutput

__all__ = ["EMCodebook", "EMVectorQuantizer", "GumbelQuantizer", "QuantizerOutput", "perplexity", "usage"]
