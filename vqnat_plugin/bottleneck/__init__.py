"""Vector quantisation with a codebook that is trained by EM, and its baselines. Plain torch: usable without
fairseq.
"""

from .base import Quantizer
from .codebook import EMCodebook
from .finite_scalar import FiniteScalarQuantizer
from .gradient import GradientQuantizer
from .gumbel import GumbelQuantizer
from .metrics import perplexity, usage
from .output import QuantizerOutput
from .quantizer import EMVectorQuantizer
from .registry import Settings, build, kinds, register
from .residual import ResidualEMQuantizer
from .simvq import SimVQQuantizer

__all__ = [
    "EMCodebook",
    "EMVectorQuantizer",
    "FiniteScalarQuantizer",
    "GradientQuantizer",
    "GumbelQuantizer",
    "Quantizer",
    "QuantizerOutput",
    "ResidualEMQuantizer",
    "Settings",
    "SimVQQuantizer",
    "build",
    "kinds",
    "perplexity",
    "register",
    "usage",
]
