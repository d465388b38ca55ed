"""Curves of trainings of image models."""

import functools

from ..evaluation.plots import CODEBOOK_PANELS, Panels, plot_training

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
# What the logs have of losses in bits, and of the use of the codes.
draw_training = functools.partial(plot_training, panels=PANELS)
