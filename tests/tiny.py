"""Tiny models, batches and trainers for tests."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from fairseq import options, tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.trainer import Trainer
from fairseq_cli import train
from torch import Tensor, nn

import vqnat_plugin
from vqnat_plugin.models.options import complete
from vqnat_plugin.models.vq_nat import VQNAT
from vqnat_plugin.models.vq_nat_config import VQNATConfig

assert vqnat_plugin  # importing it registers the model with fairseq

PAD, EOS, UNK = 1, 2, 3
VOCABULARY = 20
DIM = 16

# Sizes that train in seconds; no dropout, so that runs can be compared.
STUDENT = (
    "--task translation_vq --arch vq_nat_em_tiny --criterion vq_nat_loss --bottleneck hard"
    " --embed-dim 32 --ffn-dim 64 --attention-heads 2"
    " --encoder-layers 1 --predictor-layers 1 --decoder-layers 1"
    " --codebook-size 16 --compress-steps 1 --dropout 0 --conv-dropout 0 --unquantized-updates 2"
)
TRAINING = (
    "--optimizer adam --lr 0.003 --max-tokens 100 --seed 1 --cpu --num-workers 0 --no-progress-bar"
    " --log-format none --required-batch-size-multiple 1 --disable-validation --no-epoch-checkpoints"
)


def tiny_config(**changes: Any) -> VQNATConfig:
    """Options of one layer each, 8 codes, one halving, hard EM, no dropout, quantised from the start."""
    config = VQNATConfig(
        embed_dim=DIM,
        ffn_dim=32,
        attention_heads=2,
        encoder_layers=1,
        predictor_layers=1,
        decoder_layers=1,
        dropout=0.0,
        conv_dropout=0.0,
        bottleneck="hard",
        codebook_size=8,
        compress_steps=1,
        unquantized_updates=0,
    )
    for name, value in changes.items():
        assert hasattr(config, name), name
        setattr(config, name, value)
    return complete(VQNATConfig, config)


def tiny_model(seed: int = 1, start: bool = True, **changes: Any) -> VQNAT:
    """A model with random weights in evaluation mode; `start` gives it random codes, else it has none yet."""
    torch.manual_seed(seed)
    config = tiny_config(**changes)
    tokens = nn.Embedding(VOCABULARY, config.embed_dim, padding_idx=PAD)
    model = VQNAT(config, tokens, tokens)
    if start:
        # Codes of the length that the compressor's layer norm gives to latents.
        codes = torch.randn(model.quantizer.codebook.shape)
        model.quantizer.set_codebook(nn.functional.layer_norm(codes, codes.shape[1:]))
    return model.eval()


def sentences(count: int, seed: int = 0, shortest: int = 1, longest: int = 9) -> list[list[int]]:
    """Random sentences of words of the vocabulary, each ended by EOS."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(shortest, longest + 1, (count,), generator=generator).tolist()
    return [[*torch.randint(4, VOCABULARY, (n,), generator=generator).tolist(), EOS] for n in lengths]


def padded(rows: Sequence[Sequence[int]], left: bool = False, extra: int = 0) -> Tensor:
    """Sentences as one tensor, padded to the longest of them and `extra` positions more."""
    width = max(map(len, rows)) + extra
    pads = [[PAD] * (width - len(row)) for row in rows]
    return torch.tensor([[*pad, *row] if left else [*row, *pad] for row, pad in zip(rows, pads, strict=True)])


def sample(source: Sequence[Sequence[int]], target: Sequence[Sequence[int]]) -> dict[str, Any]:
    """A batch as fairseq's loader makes it, the source padded on the left."""
    tokens = padded(source, left=True)
    return {
        "id": torch.arange(len(source)),
        "nsentences": len(source),
        "ntokens": sum(map(len, target)),
        "net_input": {
            "src_tokens": tokens,
            "src_lengths": tokens.ne(PAD).sum(1),
            "prev_output_tokens": padded(target).roll(1, 1),
        },
        "target": padded(target),
    }


def random_sample(count: int = 6, seed: int = 0) -> dict[str, Any]:
    """A batch of random sentence pairs."""
    return sample(sentences(count, seed), sentences(count, seed + 1000))


def parse(arguments: Sequence[str]) -> Any:
    """fairseq-train's configuration of a command line."""
    parsed = options.parse_args_and_arch(options.get_training_parser(), input_args=list(arguments))
    return convert_namespace_to_omegaconf(parsed)


def train_student(data: Path, out: Path, *flags: str) -> Path:
    """Run fairseq-train in this process with `STUDENT`, `TRAINING` and further flags; the last checkpoint."""
    words = f"{data} --save-dir {out} {STUDENT} {TRAINING}".split()
    train.main(parse([*words, *flags]))
    return out / "checkpoint_last.pt"


@contextmanager
def trainer(data: Path, *flags: str) -> Iterator[Trainer]:
    """A trainer of the tiny student on the data, at update 0; what it logs is dropped."""
    from fairseq.logging import metrics

    cfg = parse([*f"{data} --save-dir {data} --no-save {STUDENT} {TRAINING}".split(), *flags])
    task = tasks.setup_task(cfg.task)
    torch.manual_seed(cfg.common.seed)
    model, criterion = task.build_model(cfg.model), task.build_criterion(cfg.criterion)
    made = Trainer(cfg, task, model, criterion)
    with metrics.aggregate(new_root=True):
        made.begin_epoch(1)
        yield made


def batches(trainer: Trainer, count: int, max_tokens: int = 100) -> list[dict[str, Any]]:
    """The first batches of the trainer's data, in a fixed order."""
    task = trainer.task
    if "train" not in task.datasets:
        task.load_dataset("train")
    iterator = task.get_batch_iterator(task.dataset("train"), max_tokens=max_tokens, seed=1)
    return [batch for batch, _ in zip(iterator.next_epoch_itr(shuffle=False), range(count), strict=False)]


def model_state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all parameters and buffers."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def different(first: dict[str, Tensor], second: dict[str, Tensor]) -> list[str]:
    """Names of the tensors that differ in any bit."""
    assert first.keys() == second.keys()
    return [name for name in first if not torch.equal(first[name], second[name])]
