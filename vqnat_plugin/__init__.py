"""Non-autoregressive translation with vector-quantised latents trained by EM (Roy et al., 2018), for fairseq.

Importing the package registers its models, criterions and tasks with fairseq (`--user-dir vqnat_plugin`).
"""

from . import compat

__version__ = "0.1.0"

compat.install()

from .criterions import vq_nat_loss, vq_vae_loss  # noqa: E402
from .models import vq_image_prior, vq_nat, vq_vae  # noqa: E402
from .tasks import image_vq, translation_vq  # noqa: E402

__all__ = [
    "__version__",
    "image_vq",
    "translation_vq",
    "vq_image_prior",
    "vq_nat",
    "vq_nat_loss",
    "vq_vae",
    "vq_vae_loss",
]
