"""Vector quantisation with a codebook that is trained by EM. Plain torch: usable without fairseq."""

from .codebook import EMCodebook, perplexity, usage
from .quantizer import EMVectorQuantizer, QuantizerOutput

__all__ = ["EMCodebook", "EMVectorQuantizer", "QuantizerOutput", "perplexity", "usage"]
