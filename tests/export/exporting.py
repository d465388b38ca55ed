"""Exported models of tiny ones with random weights, and what torch says of them."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.models.transformer import TransformerModel, base_architecture
from pytest import approx
from tiny import VOCABULARY, padded

from vqnat_plugin.export.teacher import build_teacher
from vqnat_plugin.export.translation import build_graphs
from vqnat_plugin.files import write_lines
from vqnat_plugin.generation.latent_generator import LatentGenerator
from vqnat_plugin.generation.latent_search import LatentSearch
from vqnat_plugin.generation.verification import Verifier
from vqnat_plugin.models.vq_nat import VQNAT
from vqnat_plugin.reading import sha256
from vqnat_plugin.runtime.decoding import Decoding
from vqnat_plugin.runtime.exported import DICTIONARIES, SIZES, SPECIALS, file_names, write_config
from vqnat_plugin.runtime.translator import Translator


def exported(model: VQNAT, folder: Path, precision: str = "fp32", teacher: Any = None) -> Translator:
    """The translator of a model of `tiny.tiny_model`, without a text pipeline."""
    folder.mkdir()
    graphs = build_graphs(model, precision) | ({} if teacher is None else build_teacher(teacher, precision))
    for name, graph in graphs.items():
        graph.save(folder / f"{name}.onnx")
    for name in DICTIONARIES.values():
        write_lines(folder / name, [f"w{number} 1" for number in range(VOCABULARY - SPECIALS)])
    sizes = {**dataclasses.asdict(model.config), "target_symbols": VOCABULARY}
    content = {
        "precision": precision,
        "source_lang": "en",
        "target_lang": "de",
        "max_source_positions": 4096,
        "sizes": {name: sizes[name] for name in SIZES},
        "teacher": teacher and {"max_target_positions": teacher.max_decoder_positions()},
        "files": {name: sha256(folder / name) for name in file_names(False, teacher is not None)},
    }
    write_config(folder, content)
    return Translator(folder)


def random_teacher(seed: int = 2, **changes: Any) -> Any:
    """An autoregressive Transformer of `tiny.VOCABULARY`, two layers each, with random weights."""
    torch.manual_seed(seed)
    dictionary = Dictionary()
    for number in range(VOCABULARY - SPECIALS):
        dictionary.add_symbol(f"w{number}")
    sides = {"embed_dim": 16, "ffn_embed_dim": 32, "layers": 2, "attention_heads": 2}
    options = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in sides.items()}
    args = argparse.Namespace(**{**options, "share_decoder_input_output_embed": True, **changes})
    base_architecture(args)
    task = SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)
    model = TransformerModel.build_model(args, task)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def by_torch(
    model: VQNAT,
    rows: Sequence[Sequence[int]],
    options: Decoding,
    teacher: Any = None,
    verifier: Verifier | None = None,
) -> list[list[dict[str, Any]]]:
    """What the checkpoint's own decoding makes of sentences, in one batch."""
    generator = LatentGenerator(
        [model],
        Dictionary(),
        LatentSearch(options.candidates),
        options.max_len_a,
        options.max_len_b,
        options.min_len,
        options.lenpen,
        unk_penalty=options.unkpen,
        rescorers=[teacher] if options.rescore else [],
        verifier=verifier,
    )
    tokens = padded(rows, left=True)
    net_input = {"src_tokens": tokens, "src_lengths": torch.tensor([len(row) for row in rows])}
    return generator.generate([model], {"net_input": net_input})


def verified_by_torch(
    model: VQNAT, rows: Sequence[Sequence[int]], options: Decoding, teacher: Any
) -> list[list[dict[str, Any]]]:
    """The same with drafts that are checked."""
    verifier = Verifier(teacher, options.tolerance, options.min_len, options.unkpen)
    return by_torch(model, rows, options, verifier=verifier)


def assert_same(
    translator: Translator,
    rows: Sequence[Sequence[int]],
    options: Decoding,
    wanted: list[list[dict[str, Any]]],
) -> None:
    """The same candidates in the same order, with the same scores."""
    found = translator.decode(rows, options)
    assert [[each.tokens for each in every] for every in found] == [
        [each["tokens"].tolist() for each in every] for every in wanted
    ], options
    for ours, theirs in zip(found, wanted, strict=True):
        scores = [each["score"] for each in theirs]
        assert [each.score for each in ours] == approx(scores, abs=1e-5, rel=1e-5)


# A test of teachers of each kind that can be exported: its `changes`, for `random_teacher`.
every_shape = pytest.mark.parametrize(
    "changes",
    [
        {},
        {"encoder_normalize_before": True, "decoder_normalize_before": True},
        {"decoder_normalize_before": True, "no_decoder_final_norm": True, "decoder_layers": 1},
        {"share_all_embeddings": True, "layernorm_embedding": True, "no_scale_embedding": True},
        {"share_decoder_input_output_embed": False, "encoder_embed_dim": 24, "encoder_attention_heads": 3},
    ],
    ids=["post-norm", "pre-norm", "mixed", "shared", "unequal"],
)
