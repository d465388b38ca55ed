"""The image task: images for the autoencoder, or their codes for the prior."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.tasks import FairseqTask, register_task
from omegaconf import II, MISSING
from torch import nn

from ..errors import CheckpointError, UsageError
from ..files import write_atomically
from ..imaging.cache import make_once
from ..imaging.dataset import DOWNLOADS, ArrayDataset, ImageDataset
from ..imaging.models import encode_images, load_autoencoder
from ..machine import available_device
from ..models.options import complete
from ..models.vq_image_prior import VQImagePrior
from ..models.vq_vae import VQVAE
from ..modules.image_autoencoder import DOWNSAMPLING
from ..options import IMAGE_SPLITS, MOST_WIDTH, option, require
from ..reading import sha256
from .em_task import EMTask

if TYPE_CHECKING:
    from ..imaging.reading import Images


@dataclass
class ImageVQConfig(FairseqDataclass):
    """Options of `--task image_vq`."""

    data: str = option(
        MISSING,
        "folder of images: torchvision's CIFAR-10 or SVHN, or 'train' and 'test' with class folders",
    )
    image_size: int = option(32, "height and width of the images", least=DOWNSAMPLING, most=MOST_WIDTH)
    download_data: ChoiceEnum(list(DOWNLOADS)) = option(  # type: ignore[valid-type]
        "none", "let torchvision fetch this data set into the folder"
    )
    valid_size: int = option(
        2000, "images of the training folder that are held out as subset 'valid'", least=0
    )
    crop: int = option(
        0, "training: move images by up to so many pixels, at random", least=0, most=MOST_WIDTH
    )
    flip: bool = option(False, "training: mirror images at random; a prior sees both")
    image_cache: Optional[str] = option(  # noqa: UP045 (fairseq reads this annotation)
        None, "folder for decoded images and codes (default: 'images' in --save-dir)"
    )
    codes_from: Optional[str] = option(  # noqa: UP045
        None, "train a prior on the codes that this checkpoint of an autoencoder gives to the images"
    )
    save_dir: str = II("checkpoint.save_dir")
    seed: int = II("common.seed")
    cpu: bool = II("common.cpu")

    def check(self) -> None:
        """Raise `UsageError` for a size that the grid of codes cannot have."""
        require(self, "image_size", self.image_size % DOWNSAMPLING == 0, f"a multiple of {DOWNSAMPLING}")


@register_task("image_vq", dataclass=ImageVQConfig)
class ImageVQTask(EMTask, FairseqTask):
    """Images with `--arch vq_vae_em`, their codes with `--arch vq_image_prior`; `--criterion vq_vae_loss`.

    Attributes:
        autoencoder: that of `--codes-from`, frozen; None without.
    """

    drives_vq_vae = True
    names = ("image_vq", "vq_vae_loss")
    cfg: ImageVQConfig

    def __init__(self, cfg: ImageVQConfig, autoencoder: VQVAE | None = None, digest: str = "") -> None:
        super().__init__(cfg)
        self.autoencoder, self._digest = autoencoder, digest

    @classmethod
    def setup_task(cls, cfg: ImageVQConfig, **kwargs: Any) -> "ImageVQTask":
        """Check the options and load the autoencoder of `--codes-from`.

        Raises:
            UsageError: an option is out of its range, or the autoencoder is for images of another size.
            CheckpointError: see `load_autoencoder`.
        """
        complete(ImageVQConfig, cfg)
        autoencoder, digest = None, ""
        if cfg.codes_from:
            path = Path(cfg.codes_from)
            try:
                digest = sha256(path) if path.is_file() else ""
                autoencoder = load_autoencoder(path)
            except CheckpointError as error:
                raise CheckpointError(f"--codes-from {error}") from None
            # Codes are kept under this name.
            if sha256(path) != digest:
                raise CheckpointError(f"--codes-from {path}: is still written to; wait for that training")
            if cfg.crop:
                raise UsageError(f"--crop {cfg.crop}: is for images; leave it out with --codes-from")
            if autoencoder.image_size != cfg.image_size:
                raise UsageError(
                    f"--codes-from {cfg.codes_from}: was trained with --image-size {autoencoder.image_size}"
                )
        return cls(cfg, autoencoder, digest)

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

    @property
    def cache(self) -> Path:
        """Where decoded images and codes are kept."""
        return Path(self.cfg.image_cache or Path(self.cfg.save_dir) / "images")

    def load_dataset(self, split: str, combine: bool = False, **kwargs: Any) -> None:
        """Load "train", "valid" or "test": images, or with an autoencoder their codes.

        Raises:
            UsageError: there is no such subset.
            DataError: see `open_split`.
        """
        if split not in IMAGE_SPLITS:
            raise UsageError(f"subset '{split}': needs one of train, valid, test")
        # Translation, which registers this task as well, goes without torchvision.
        from ..imaging.reading import open_split

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

    def _codes(self, images: "Images", split: str, mirrored: bool) -> np.ndarray:
        """Codes of all images, (images, *codes_shape), made once and kept in the cache, in few bytes."""
        autoencoder = self.autoencoder
        assert autoencoder is not None
        digest = hashlib.sha256(f"{self._digest} {images.digest} {self.cfg.valid_size}".encode())
        kind = np.uint8 if autoencoder.config.codebook_size <= 256 else np.int32

        def make(file: Path) -> None:
            model = autoencoder.to(available_device(self.cfg.cpu))
            codes = encode_images(model, images, split, mirrored)
            write_atomically(file, lambda part: np.save(part, codes.astype(kind)))

        mark = "-mirrored" if mirrored else ""
        file = self.cache / f"codes-{split}{mark}-{digest.hexdigest()[:16]}.npy"
        shape, below = (len(images), *autoencoder.codes_shape), autoencoder.config.codebook_size
        return make_once(file, shape, kind, make, below)
