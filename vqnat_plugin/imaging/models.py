"""The two trained models of the image task, checked against each other."""

from pathlib import Path

from fairseq import checkpoint_utils
from fairseq.dataclass.utils import overwrite_args_by_name
from fairseq.models import ARCH_MODEL_REGISTRY

from ..errors import DataError
from ..models.vq_image_prior import VQImagePrior
from ..models.vq_vae import VQVAE


def load_prior(checkpoint: Path, autoencoder: Path, model: VQVAE) -> VQImagePrior:
    """A trained prior in evaluation mode.

    Args:
        checkpoint: of a model trained with `--arch vq_image_prior`.
        autoencoder: checkpoint of `model`.
        model: the autoencoder whose codes it has to describe.

    Raises:
        DataError: the file is missing, of another kind, or belongs to another autoencoder.
    """
    wrong = f"{checkpoint}: was trained on the codes of another autoencoder than {autoencoder}"
    try:
        state = checkpoint_utils.load_checkpoint_to_cpu(str(checkpoint))
    except OSError as error:
        raise DataError(f"{checkpoint}: {error}") from None
    kind = ARCH_MODEL_REGISTRY.get(getattr(state["cfg"].model, "_name", None), object)
    if not issubclass(kind, VQImagePrior):
        raise DataError(f"{checkpoint}: is no prior over codes (--arch vq_image_prior)")
    try:
        overwrite_args_by_name(state["cfg"], {"codes_from": str(autoencoder)})
        (prior,), _, _ = checkpoint_utils.load_model_ensemble_and_task([str(checkpoint)], state=state)
    except RuntimeError as error:
        if "size mismatch" not in str(error):
            raise
        raise DataError(wrong) from None
    if int(prior.digest) != model.digest():
        raise DataError(wrong)
    return prior.eval()
