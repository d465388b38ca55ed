"""Non-autoregressive translation with vector-quantised latents trained by EM (Roy et al., 2018), for fairseq.

Importing the package costs next to nothing. Where fairseq is in use (`--user-dir vqnat_plugin`, or `import
fairseq` before or after), its models, criterions and tasks are registered with it.
"""

from . import registration

__version__ = "0.2.0"

registration.watch()

__all__ = ["__version__"]
