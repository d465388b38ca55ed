"""What several tests need: a tiny binarised corpus and a model trained on it."""

import random
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

# The same examples in each run; how long one takes depends on the machine.
hypothesis.settings.register_profile("tests", derandomize=True, deadline=None)
hypothesis.settings.load_profile("tests")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What a test draws is the same in each run."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that fairseq-preprocess wrote: en-de, 60 training, 8 valid, 5 test pairs, one joined dictionary.

    The German side is the English words in capitals and backwards. The text is in `../text/SPLIT.LANG`.
    """
    from fairseq import options
    from fairseq_cli import preprocess

    folder = tmp_path_factory.mktemp("tiny_corpus")
    text = folder / "text"
    text.mkdir()
    words = [f"w{i}" for i in range(20)]
    rng = random.Random(1)
    for split, count in (("train", 60), ("valid", 8), ("test", 5)):
        source = [rng.choices(words, k=rng.randint(1, 9)) for _ in range(count)]
        target = [[word.upper() for word in reversed(sentence)] for sentence in source]
        for language, side in (("en", source), ("de", target)):
            lines = (" ".join(sentence) + "\n" for sentence in side)
            (text / f"{split}.{language}").write_text("".join(lines))
    arguments = ["--source-lang=en", "--target-lang=de", "--joined-dictionary", f"--destdir={folder / 'bin'}"]
    arguments += [f"--{split}pref={text / split}" for split in ("train", "valid", "test")]
    preprocess.main(options.get_preprocessing_parser().parse_args(arguments))
    return folder / "bin"


@pytest.fixture(scope="session")
def tiny_teacher(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of an autoregressive Transformer that has begun to learn `tiny_corpus`."""
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from fairseq_cli import train

    folder = tmp_path_factory.mktemp("tiny_teacher")
    flags = (
        "--task translation --arch transformer --share-all-embeddings --dropout 0.1"
        " --encoder-embed-dim 32 --encoder-ffn-embed-dim 64 --encoder-layers 1 --encoder-attention-heads 2"
        " --decoder-embed-dim 32 --decoder-ffn-embed-dim 64 --decoder-layers 1 --decoder-attention-heads 2"
        " --max-source-positions 64 --max-target-positions 64 --optimizer adam --lr 0.005 --max-tokens 400"
        " --max-update 150 --seed 1 --cpu --num-workers 0 --no-progress-bar --disable-validation"
        " --no-epoch-checkpoints"
    )
    arguments = [str(tiny_corpus), f"--save-dir={folder}", *flags.split()]
    parsed = options.parse_args_and_arch(options.get_training_parser(), input_args=arguments)
    train.main(convert_namespace_to_omegaconf(parsed))
    return folder / "checkpoint_last.pt"


@pytest.fixture(scope="session")
def prenorm_teacher(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a pre-norm Transformer of the tiny student's widths, with two decoder layers."""
    from fairseq_cli import train
    from tiny import TRAINING, parse

    folder = tmp_path_factory.mktemp("prenorm_teacher")
    flags = (
        f"{tiny_corpus} --save-dir {folder} --task translation --arch transformer --share-all-embeddings"
        " --encoder-embed-dim 32 --encoder-ffn-embed-dim 64 --encoder-layers 1 --encoder-attention-heads 2"
        " --decoder-embed-dim 32 --decoder-ffn-embed-dim 64 --decoder-layers 2 --decoder-attention-heads 2"
        f" --encoder-normalize-before --decoder-normalize-before --dropout 0.1 {TRAINING} --max-update 20"
    )
    train.main(parse(flags.split()))
    return folder / "checkpoint_last.pt"


@pytest.fixture(scope="session")
def tiny_student(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a latent model that knows the training sentences of `tiny_corpus` by heart.

    After 300 updates that depends on the last bits of the arithmetic; after 500 it held for all seeds tried.
    """
    from tiny import train_student

    return train_student(tiny_corpus, tmp_path_factory.mktemp("tiny_student"), "--max-update=500")


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tiny images in class folders."""
    from tiny_images import write_folder

    return write_folder(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def image_autoencoder(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of an autoencoder that has begun to learn `image_folder`."""
    from tiny_images import AUTOENCODER, train_images

    folder = tmp_path_factory.mktemp("image_autoencoder")
    return train_images(image_folder, folder, AUTOENCODER, "--max-update", "200", "--lr", "0.01")


@pytest.fixture(scope="session")
def image_prior(
    image_folder: Path, image_autoencoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Checkpoint of a prior that has begun to learn the codes of `image_autoencoder`."""
    from tiny_images import PRIOR, train_images

    folder = tmp_path_factory.mktemp("image_prior")
    flags = ("--codes-from", str(image_autoencoder), "--max-update", "60")
    return train_images(image_folder, folder, PRIOR, *flags)
