"""The image task: pictures for the autoencoder, or their codes for the prior."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from fairseq import checkpoint_utils
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.tasks import FairseqTask, register_task
from omegaconf import II, MISSING
from torch import nn
from tqdm import tqdm

from ..errors import UsageError
from ..files import write_atomically
from ..imaging.dataset import ArrayDataset, ImageDataset
from ..imaging.reading import DOWNLOADS, fingerprint, open_split
from ..models.vq_image_prior import VQImagePrior
from ..models.vq_vae import VQVAE
from ..modules.image_autoencoder import DOWNSAMPLING
from ..options import option
from .em_task import EMTask

ENCODING_BATCH = 256


@dataclass
class ImageVQConfig(FairseqDataclass):
    """Options of `--task image_vq`."""

    data: str = option(
        MISSING,
        "folder of pictures: torchvision's CIFAR-10 or SVHN, or 'train' and 'test' with class folders",
    )
    image_size: int = option(32, "height and width of the pictures")
    download_data: ChoiceEnum(list(DOWNLOADS)) = option(  # type: ignore[valid-type]
        "none", "let torchvision fetch this data set into the folder"
    )
    valid_size: int = option(2000, "pictures of the training folder that are held out as subset 'valid'")
    crop: int = option(0, "training: move pictures by up to so many pixels, at random")
    flip: bool = option(False, "training: mirror pictures at random; a prior sees both")
    image_cache: Optional[str] = option(  # noqa: UP045 (fairseq reads this annotation)
        None, "folder for decoded pictures and codes (default: 'images' in --save-dir)"
    )
    codes_from: Optional[str] = option(  # noqa: UP045
        None, "train a prior on the codes that this checkpoint of an autoencoder gives to the pictures"
    )
    save_dir: str = II("checkpoint.save_dir")
    seed: int = II("common.seed")


@register_task("image_vq", dataclass=ImageVQConfig)
class ImageVQTask(EMTask, FairseqTask):
    """Pictures with `--arch vq_vae_em`, their codes with `--arch vq_image_prior`; `--criterion vq_vae_loss`.

    Attributes:
        autoencoder: that of `--codes-from`, frozen; None without.
    """

    drives_vq_vae = True
    cfg: ImageVQConfig

    def __init__(self, cfg: ImageVQConfig, autoencoder: VQVAE | None = None) -> None:
        super().__init__(cfg)
        self.autoencoder = autoencoder

    @classmethod
    def setup_task(cls, cfg: ImageVQConfig, **kwargs: Any) -> "ImageVQTask":
        """Check the options and load the autoencoder of `--codes-from`.

        Raises:
            UsageError: an option is out of its range, or the checkpoint is of another kind.
        """
        if cfg.image_size < DOWNSAMPLING or cfg.image_size % DOWNSAMPLING:
            raise UsageError(f"--image-size {cfg.image_size}: needs a multiple of {DOWNSAMPLING}")
        for name in ("crop", "valid_size"):
            if getattr(cfg, name) < 0:
                raise UsageError(f"--{name.replace('_', '-')} {getattr(cfg, name)}: needs at least 0")
        autoencoder = None
        if cfg.codes_from:
            autoencoder, image_size = load_autoencoder(Path(cfg.codes_from), "--codes-from ")
            if image_size != cfg.image_size:
                raise UsageError(f"--codes-from {cfg.codes_from}: was trained with --image-size {image_size}")
        return cls(cfg, autoencoder)

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> nn.Module:
        """Build the model; `UsageError` for one that this task cannot drive, or not with these options."""
        kind = ARCH_MODEL_REGISTRY.get(cfg._name, object)
        if not issubclass(kind, (VQVAE, VQImagePrior)):
            raise UsageError(
                f"--task image_vq cannot drive --arch {cfg._name}: add --arch vq_vae_em or vq_image_prior"
            )
        if issubclass(kind, VQVAE) and self.autoencoder is not None:
            raise UsageError(
                f"--codes-from {self.cfg.codes_from}: is for --arch vq_image_prior; leave it out"
            )
        return super().build_model(cfg, from_checkpoint)

    def build_criterion(self, cfg: Any, from_checkpoint: bool = False) -> nn.Module:
        """Build the criterion; `UsageError` for one that cannot drive the models."""
        name = getattr(cfg, "_name", None)
        if name != "vq_vae_loss":
            raise UsageError(
                f"--task image_vq cannot be driven by --criterion {name}: add --criterion vq_vae_loss"
            )
        return super().build_criterion(cfg, from_checkpoint)

    @property
    def cache(self) -> Path:
        """Where decoded pictures and codes are kept."""
        return Path(self.cfg.image_cache or Path(self.cfg.save_dir) / "images")

    def load_dataset(self, split: str, combine: bool = False, **kwargs: Any) -> None:
        """Load "train", "valid" or "test": pictures, or with an autoencoder their codes."""
        if split not in ("train", "valid", "test"):
            raise UsageError(f"subset '{split}': needs one of train, valid, test")
        cfg, training = self.cfg, split == "train"
        images = open_split(
            Path(cfg.data), split, cfg.image_size, self.cache, cfg.valid_size, str(cfg.download_data)
        )
        if self.autoencoder is None:
            crop, flip = (cfg.crop, cfg.flip) if training else (0, False)
            self.datasets[split] = ImageDataset(images, crop, flip, cfg.seed)
            return
        codes = self._codes(images, split, mirrored=False)
        if training and cfg.flip:
            codes = np.concatenate([codes, self._codes(images, split, mirrored=True)])
        self.datasets[split] = ArrayDataset(codes, "codes", 3 * cfg.image_size**2)

    def _codes(self, images: Any, split: str, mirrored: bool) -> np.ndarray:
        """Codes of all pictures, (pictures, *codes_shape), made once and kept in the cache, in few bytes."""
        assert self.autoencoder is not None and self.cfg.codes_from is not None
        digest = hashlib.sha256(Path(self.cfg.codes_from).read_bytes())
        digest.update(f"{fingerprint(Path(self.cfg.data))} {self.cfg.valid_size}".encode())
        name = f"codes-{split}{'-mirrored' if mirrored else ''}-{digest.hexdigest()[:16]}.npy"
        file = self.cache / name
        if not file.is_file():
            codes = encode_pictures(self.autoencoder, len(images), lambda rows: images[rows], split, mirrored)
            kind = np.uint8 if self.autoencoder.config.codebook_size <= 256 else np.int32
            write_atomically(file, lambda part: np.save(part, codes.astype(kind)))
        return np.load(file, mmap_mode="r")


def load_autoencoder(checkpoint: Path, flag: str = "") -> tuple[VQVAE, int]:
    """A trained image autoencoder in evaluation mode, and the size of its pictures.

    Args:
        flag: stands before the path in messages.

    Raises:
        UsageError: the file is missing, or of another kind.
        CheckpointError: it is no checkpoint.
    """
    try:
        (model,), config, _ = checkpoint_utils.load_model_ensemble_and_task([str(checkpoint)])
    except OSError as error:
        raise UsageError(f"{flag}{checkpoint}: {error}") from None
    if not isinstance(model, VQVAE):
        raise UsageError(f"{flag}{checkpoint}: is no image autoencoder (--arch vq_vae_em)")
    return model.eval().requires_grad_(False), config.task.image_size


@torch.no_grad()
def encode_pictures(
    model: VQVAE, count: int, read: Callable[[slice], np.ndarray], title: str, mirrored: bool = False
) -> np.ndarray:
    """Codes of `count` pictures, (count, *codes_shape) int64; `read` gives a slice of them, uint8."""
    device = next(model.parameters()).device
    found = [np.zeros((0, *model.codes_shape), np.int64)]
    for start in tqdm(range(0, count, ENCODING_BATCH), f"encode {title}", unit="batch", disable=None):
        images = torch.from_numpy(
            np.ascontiguousarray(read(slice(start, min(start + ENCODING_BATCH, count))))
        )
        images = images.flip(3) if mirrored else images
        found.append(model.encode_codes(images.to(device)).cpu().numpy())
    return np.concatenate(found)
