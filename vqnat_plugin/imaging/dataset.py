"""Images, or their codes, as a dataset of fairseq."""

from typing import Any

import numpy as np
import torch
from fairseq.data import FairseqDataset

# What torchvision can fetch.
DOWNLOADS = ("none", "cifar10", "svhn")


class ArrayDataset(FairseqDataset):
    """Rows of an array, in batches of a number of rows; each row counts as one token.

    Args:
        rows: (rows, ...), for example memory-mapped.
        name: of the model's argument that takes a batch.
        dimensions: of an image, 3 * height * width: likelihoods are reported for each.
    """

    def __init__(self, rows: Any, name: str, dimensions: int) -> None:
        super().__init__()
        self.rows, self.name, self.dimensions = rows, name, dimensions
        self.sizes = np.ones(len(rows), np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[int, np.ndarray]:
        return index, np.asarray(self.rows[index])

    def num_tokens(self, index: int) -> int:
        """1: batches are counted in images."""
        return 1

    def num_tokens_vec(self, indices: np.ndarray) -> np.ndarray:
        """Ones, for each of the indices."""
        return np.ones(len(indices), np.int64)

    def size(self, index: int) -> int:
        """1: no image is too long."""
        return 1

    def ordered_indices(self) -> np.ndarray:
        """A random order, from which fairseq makes the batches.

        It asks once, under a seed that is the same whatever the epoch a process starts in (see `compat`): all
        epochs have the same batches, in orders of their own. With `--update-epoch-batch-itr` it asks in each
        epoch, under a seed of that epoch.
        """
        return np.random.permutation(len(self))

    def collater(self, samples: list[tuple[int, np.ndarray]]) -> dict[str, Any]:
        """A batch: {"id", "nsentences", "ntokens": batch * dimensions, "net_input": {name: (batch, ...)}}."""
        if not samples:
            return {}
        numbers, rows = zip(*samples, strict=True)
        return {
            "id": torch.tensor(numbers),
            "nsentences": len(rows),
            "ntokens": len(rows) * self.dimensions,
            "net_input": {self.name: torch.from_numpy(np.stack(rows))},
        }


class ImageDataset(ArrayDataset):
    """Images (uint8), in training shifted and mirrored at random.

    What happens to an image depends on seed, epoch and its number alone: a resumed training sees the same.

    Args:
        images: (images, 3, height, width) uint8.
        crop: pixels by which an image is moved at most, in each direction; its edge fills the gap.
        flip: whether half of them are mirrored.
        seed: of both.
    """

    def __init__(self, images: Any, crop: int = 0, flip: bool = False, seed: int = 1) -> None:
        super().__init__(images, "images", int(np.prod(images[0].shape)))
        self.crop, self.flip, self.seed = crop, flip, seed
        # In shared memory: fairseq keeps the processes that read, and the datasets in them, over epochs.
        self._epoch = torch.ones((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Other shifts from now on; fairseq calls this at the start of every epoch."""
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> tuple[int, np.ndarray]:
        image = np.asarray(self.rows[index])
        if self.crop or self.flip:
            random = np.random.default_rng((self.seed, int(self._epoch), index))
            if self.flip and random.random() < 0.5:
                image = image[:, :, ::-1]
            if self.crop:
                down, right = random.integers(0, 2 * self.crop + 1, 2)
                padded = np.pad(image, ((0, 0), (self.crop, self.crop), (self.crop, self.crop)), "edge")
                image = padded[:, down : down + image.shape[1], right : right + image.shape[2]]
        return index, np.ascontiguousarray(image)
