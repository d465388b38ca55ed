"""Curves of trainings of image models."""

from collections.abc import Mapping
from pathlib import Path

from ..evaluation.plots import CODEBOOK_PANELS, Panels, plot_training
from ..evaluation.training_log import TrainingLog

PANELS: Panels = (
    (
        "Loss, with the codebook's own",
        "bits per dimension",
        (("loss", "train", "train"), ("loss", "valid", "valid")),
    ),
    (
        "Images given codes",
        "bits per dimension",
        (("pixels_loss", "train", "train"), ("pixels_loss", "valid", "valid")),
    ),
    ("Codes", "bits per code", (("code_bits", "train", "train"), ("code_bits", "valid", "valid"))),
    *CODEBOOK_PANELS,
)


def draw_training(logs: Mapping[str, TrainingLog], path: Path) -> bool:
    """Draw what the logs have of losses in bits, and of the use of the codes, as one PNG.

    Args:
        logs: by name of the training.
        path: of the PNG.

    Returns:
        Whether there was anything to draw.
    """
    return plot_training(logs, path, PANELS)
