"""Decoding against a plain program, and the contracts of fairseq's generators."""

import math
from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from decoding_by_hand import BOS, Words, decode, write_words
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny import EOS, PAD, UNK, different, model_state, random_sample, sample, sentences, tiny_model
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from vqnat_plugin.errors import UsageError
from vqnat_plugin.generation.latent_generator import LatentGenerator, Reconstruction
from vqnat_plugin.generation.latent_search import EndOfBatch
from vqnat_plugin.models.vq_nat import VQNAT

Hypotheses = list[list[dict[str, Any]]]


def generator(models: Sequence[VQNAT], **options: Any) -> LatentGenerator:
    return LatentGenerator.from_options(models, Namespace(**options), Words())


def translate(models: Sequence[VQNAT], rows: Sequence[Sequence[int]], **options: Any) -> Hypotheses:
    batch = sample(rows, [[EOS]] * len(rows))
    return generator(models, **options).generate(models, batch)


def longest_words(model: VQNAT) -> VQNAT:
    """Make a model that never ends by itself: neither its latents nor its words."""
    with torch.no_grad():
        model.predictor.output.bias[-1] = -50.0
        model.output_weight[EOS] = 0.0
    return model


# Against the plain program.


@pytest.mark.parametrize("beam", [1, 2, 5, 60])
@pytest.mark.parametrize("seed", [1, 2])
def test_translations_equal_those_of_the_plain_program(beam: int, seed: int) -> None:
    model, rows = tiny_model(seed, codebook_size=3), sentences(4, seed)
    found = translate([model], rows, beam=beam, max_len_b=5)
    for row, hypotheses in zip(rows, found, strict=True):
        expected = decode([model], row, beam, most=5)
        assert len(hypotheses) == len(expected)
        assert [h["score"] for h in hypotheses] == pytest.approx([e.score() for e in expected], abs=1e-4)
        assert sorted(tuple(h["tokens"].tolist()) for h in hypotheses) == sorted(e.words for e in expected)
        assert tuple(hypotheses[0]["tokens"].tolist()) == expected[0].words
        assert hypotheses[0]["positional_scores"].tolist() == pytest.approx(expected[0].word_scores, abs=1e-4)


@pytest.mark.parametrize("changes", [{"decoder_attention": "causal"}, {"code_dim": 5}, {"compress_steps": 2}])
def test_other_models_are_decoded_too(changes: dict[str, Any]) -> None:
    model, rows = tiny_model(codebook_size=4, **changes), sentences(3)
    for row, hypotheses in zip(rows, translate([model], rows, beam=3, max_len_b=9), strict=True):
        expected = decode([model], row, 3, most=9)
        assert [h["score"] for h in hypotheses] == pytest.approx([e.score() for e in expected], abs=1e-4)
        assert tuple(hypotheses[0]["tokens"].tolist()) == expected[0].words


def test_ensemble_equals_the_plain_program_on_mean_probabilities() -> None:
    models, rows = [tiny_model(1, codebook_size=3), tiny_model(2, codebook_size=3)], sentences(3)
    for row, hypotheses in zip(rows, translate(models, rows, beam=3, max_len_b=5), strict=True):
        expected = decode(models, row, 3, most=5)
        assert [h["score"] for h in hypotheses] == pytest.approx([e.score() for e in expected], abs=1e-4)
        assert tuple(hypotheses[0]["tokens"].tolist()) == expected[0].words


def test_ensemble_of_the_same_model_twice_equals_the_model() -> None:
    model, rows = tiny_model(), sentences(5)
    once, twice = translate([model], rows, beam=4), translate([model, model], rows, beam=4)
    for first, second in zip(once, twice, strict=True):
        assert [h["tokens"].tolist() for h in first] == [h["tokens"].tolist() for h in second]
        assert [h["score"] for h in first] == pytest.approx([h["score"] for h in second], abs=1e-5)


@pytest.mark.parametrize("change", [{"codebook_size": 4}, {"compress_steps": 2}])
def test_ensemble_of_models_that_do_not_match_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=r"^--path: .*--codebook-size and --compress-steps$"):
        generator([tiny_model(), tiny_model(**change)])


def test_ensemble_of_several_trainings_is_refused() -> None:
    model, other, later = (tiny_model(seed, codebook_size=64) for seed in (1, 2, 2))
    with pytest.raises(UsageError, match=r"^--path: .* of one training: each training has codes of its own$"):
        generator([model, model, other])
    with pytest.raises(UsageError, match=r"^--path: .* of one training"):
        generator([model, tiny_model(codebook_size=64, code_dim=5)])
    # Codes move in a training.
    codes = model.quantizer.codebook
    later.quantizer.set_codebook(codes + 0.5 * torch.randn(codes.shape))
    generator([model, later])


# Batches.


@pytest.mark.parametrize("beam", [1, 4])
def test_neither_batch_nor_order_nor_padding_changes_a_translation(beam: int) -> None:
    model, rows = tiny_model(encoder_layers=2, decoder_layers=2, compress_steps=2), sentences(12, longest=20)
    options = {"beam": beam, "max_len_a": 1.3, "max_len_b": 4}
    alone = [translate([model], [row], **options)[0] for row in rows]
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1)).tolist()
    for numbers in (list(range(12)), order, order[:5]):
        together = translate([model], [rows[number] for number in numbers], **options)
        for number, hypotheses in zip(numbers, together, strict=True):
            expected = alone[number]
            assert [h["tokens"].tolist() for h in hypotheses] == [h["tokens"].tolist() for h in expected]
            assert [h["score"] for h in hypotheses] == pytest.approx([h["score"] for h in expected], abs=1e-4)


@pytest.mark.parametrize("models", [1, 2])
def test_words_of_some_sentences_at_a_time(models: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made, rows = [tiny_model(seed) for seed in range(models)], sentences(5)
    whole = translate(made, rows, beam=3, max_len_b=9)
    monkeypatch.setattr("vqnat_plugin.generation.latent_generator.MOST_LOGITS", 1)
    for one, other in zip(whole, translate(made, rows, beam=3, max_len_b=9), strict=True):
        assert [h["tokens"].tolist() for h in one] == [h["tokens"].tolist() for h in other]
        assert [h["score"] for h in one] == pytest.approx([h["score"] for h in other], abs=1e-5)


# Scores.


def test_scores_are_sorted_and_add_up() -> None:
    model, rows = tiny_model(), sentences(6)
    by_hand = [decode([model], row, 5, most=9) for row in rows]
    for exponent in (0.0, 1.0, 2.0):
        found = translate([model], rows, beam=5, max_len_b=9, lenpen=exponent)
        for expected, hypotheses in zip(by_hand, found, strict=True):
            scores = [h["score"] for h in hypotheses]
            assert scores == sorted(scores, reverse=True)
            assert scores == pytest.approx(
                sorted((e.score(exponent) for e in expected), reverse=True), abs=1e-4
            )
            latent_scores = [(e.words, e.latent_score) for e in expected]
            for h in hypotheses:
                total = h["score"] * len(h["tokens"]) ** exponent
                latents = total - float(h["positional_scores"].sum())
                words = tuple(h["tokens"].tolist())
                assert any(w == words and abs(s - latents) < 1e-3 for w, s in latent_scores)
    plain = translate([model], rows, beam=5, max_len_b=9, unnormalized=True, lenpen=2.0)
    same = translate([model], rows, beam=5, max_len_b=9, lenpen=0.0)
    assert [[h["score"] for h in found] for found in plain] == [[h["score"] for h in found] for found in same]


def test_unknown_word_can_be_made_dear() -> None:
    model, rows = tiny_model(), sentences(8)
    with torch.no_grad():
        model.output_weight[3] = model.output_weight[4:].mean(0) * 20
    many = translate([model], rows, beam=1, max_len_b=20)
    assert any(3 in h[0]["tokens"] for h in many)
    none = translate([model], rows, beam=1, max_len_b=20, unkpen=100.0)
    assert not any(3 in h[0]["tokens"] for h in none)


# Lengths.


@settings(max_examples=300)
@given(
    a=st.integers(0, 300),
    b=st.integers(0, 250),
    lengths=st.lists(st.integers(1, 1024), min_size=1),
    least=st.integers(0, 5),
)
@example(a=29, b=0, lengths=[100], least=0)
def test_length_limits_are_those_of_fairseq(a: int, b: int, lengths: list[int], least: int) -> None:
    least = min(least, b)
    made = generator([MODEL], max_len_a=a / 100, max_len_b=b, min_len=least)
    limits = made.length_limits(torch.tensor(lengths))
    assert limits.tolist() == [max(int(a / 100 * length + b), least) + 1 for length in lengths]


MODEL = tiny_model()


@pytest.mark.parametrize("endless", [True, False])
@pytest.mark.parametrize(
    ("a", "b", "least"), [(0.0, 0, 0), (0.0, 1, 1), (0.0, 6, 1), (1.5, 0, 2), (0.7, 3, 3)]
)
def test_limits_hold_exactly(a: float, b: int, least: int, endless: bool) -> None:
    model, rows = tiny_model(compress_steps=2), sentences(8)
    if endless:
        longest_words(model)
    for row, hypotheses in zip(
        rows, translate([model], rows, beam=3, max_len_a=a, max_len_b=b, min_len=least), strict=True
    ):
        most = max(int(a * len(row) + b), least)
        for h in hypotheses:
            words = h["tokens"].tolist()
            assert words[-1] == EOS and words.count(EOS) == 1
            assert least <= len(words) - 1 <= most
            assert PAD not in words and BOS not in words
            assert len(h["positional_scores"]) == len(words) and math.isfinite(h["score"])
        if endless:
            assert all(len(h["tokens"]) == most + 1 for h in hypotheses)


def test_words_end_within_the_last_block_without_a_limit() -> None:
    model, rows = longest_words(tiny_model(compress_steps=2)), sentences(1)
    with torch.no_grad():
        model.predictor.output.bias[-1] = 50.0
    (hypotheses,) = translate([model], rows, beam=1)
    assert len(hypotheses[0]["tokens"]) == 4 + 1
    expected = decode([model], rows[0], 1, most=200)[0]
    assert tuple(hypotheses[0]["tokens"].tolist()) == expected.words
    assert hypotheses[0]["positional_scores"].tolist() == pytest.approx(expected.word_scores, abs=1e-4)


# A model that has decoded.


def test_preparing_a_model_changes_neither_weights_nor_translations() -> None:
    model, rows = tiny_model(compress_steps=2), sentences(5)
    before, expected = model_state(model), translate([model], rows, beam=3, max_len_b=9)
    model.prepare_for_inference_(Namespace(generation=Namespace(beam=3)))
    assert different(before, model_state(model)) == []
    found = translate([model], rows, beam=3, max_len_b=9)
    assert [[h["tokens"].tolist() for h in n] for n in found] == [
        [h["tokens"].tolist() for h in n] for n in expected
    ]


def test_model_goes_on_to_train_after_a_sentence_of_a_length_never_seen() -> None:
    model, batch = tiny_model(), sample([[*[5] * 300, EOS]], [[*[6] * 300, EOS]])
    (hypotheses,) = generator([model], beam=1, max_len_b=300).generate([model], batch)
    out = model.train()(**batch["net_input"], target=batch["target"])
    torch.stack(list(out.losses.values())).sum().backward()
    # fairseq's commands change what they are given.
    hypotheses[0]["positional_scores"].div_(math.log(2))


# Samples.


def test_samples_of_the_one_best_code_are_greedy() -> None:
    model, rows = tiny_model(), sentences(5)
    torch.manual_seed(0)
    sampled = translate([model], rows, beam=1, sampling=True, sampling_topk=1, max_len_b=9)
    greedy = translate([model], rows, beam=1, max_len_b=9)
    assert [h[0]["tokens"].tolist() for h in sampled] == [h[0]["tokens"].tolist() for h in greedy]
    assert [h[0]["score"] for h in sampled] == pytest.approx([h[0]["score"] for h in greedy], abs=1e-5)


def test_samples_differ_and_follow_the_seed() -> None:
    model, rows = tiny_model(), sentences(5)

    def run(seed: int) -> list[list[list[int]]]:
        torch.manual_seed(seed)
        found = translate([model], rows, beam=4, sampling=True, max_len_b=12)
        return [[h["tokens"].tolist() for h in hypotheses] for hypotheses in found]

    assert run(1) == run(1) != run(2)
    assert any(len({tuple(words) for words in hypotheses}) > 1 for hypotheses in run(1))


# Options.


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("prefix_size", 2), ("match_source_len", True), ("diverse_beam_groups", 2), ("diversity_rate", 0.5),
        ("no_repeat_ngram_size", 3), ("sampling_topp", 0.9), ("lm_path", "lm.pt"),
        ("print_alignment", "hard"), ("constraints", "ordered"), ("score_reference", True),
        ("replace_unk", "@@ "), ("retain_dropout", True), ("print_step", True), ("retain_iter_history", True),
        ("iter_decode_with_beam", 3),
    ],
)  # fmt: skip
def test_option_that_parallel_decoding_cannot_serve_is_refused(option: str, value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        generator([MODEL], **{option: value})
    assert str(caught.value).startswith(f"--{option.replace('_', '-')}")
    assert "not supported" in str(caught.value) and "\n" not in str(caught.value)


def test_fairseqs_defaults_are_accepted() -> None:
    from fairseq.dataclass.configs import GenerationConfig

    made = LatentGenerator.from_options([MODEL], GenerationConfig(), Words())
    assert (made.search.beam, made.max_len_b, made.min_len, made.exponent) == (5, 200, 1, 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam": 0}, r"^--beam 0: needs at least 1$"),
        ({"beam": 2, "nbest": 3}, r"^--nbest 3: needs --beam 3 or more, but it is 2$"),
        ({"min_len": 9, "max_len_b": 5}, r"^--min-len 9: "),
        ({"temperature": 0.0}, r"^--temperature 0.0: "),
        ({"max_len_b": -1}, r"^--max-len-b -1: "),
        ({"sampling_topk": 3}, r"^--sampling-topk 3: needs --sampling$"),
        ({"lenpen": -1000.0}, r"^--lenpen -1000.0: needs at least -50$"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        generator([MODEL], **options)


# Reconstruction.


def test_reconstruction_decodes_the_codes_of_the_reference() -> None:
    model, batch = tiny_model(), random_sample(5)
    made = generator([model])
    found = Reconstruction(made).generate([model], batch, prefix_tokens=None)
    assert [len(hypotheses) for hypotheses in found] == [1] * 5
    memory = model.encode(batch["net_input"]["src_tokens"])
    z, mask = model.compress(batch["target"], memory)
    codes = model.quantizer(z, mask).codes
    for row, (hypothesis,) in enumerate(found):
        source = batch["net_input"]["src_tokens"][row]
        own = codes[row, mask[row]].tolist()
        words, scores = write_words([model], source[source.ne(PAD)].tolist(), own, most=2 * len(own))
        assert tuple(hypothesis["tokens"].tolist()) == words
        assert hypothesis["positional_scores"].tolist() == pytest.approx(scores, abs=1e-4)


def test_reconstruction_works_before_there_is_a_codebook() -> None:
    model = tiny_model(start=False, unquantized_updates=10)
    found = Reconstruction(generator([model])).generate([model], random_sample(3))
    assert [hypotheses[0]["tokens"][-1] for hypotheses in found] == [EOS] * 3


def test_reconstruction_without_a_codebook_knows_nothing_of_the_reference() -> None:
    """Else such a model would have the best BLEU of a training for ever."""
    model, batch = tiny_model(start=False, unquantized_updates=10), random_sample(3)
    other = {**batch, "target": torch.where(batch["target"] > UNK, batch["target"] % 7 + 5, batch["target"])}
    assert not torch.equal(other["target"], batch["target"])
    made = Reconstruction(generator([model]))
    words = [[each[0]["tokens"].tolist() for each in made.generate([model], one)] for one in (batch, other)]
    assert words[0] == words[1]


# Cost.


class HostReads(TorchDispatchMode):
    """Counts operations that make the host wait for the device."""

    NAMES = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name.startswith(self.NAMES) or (
            name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        ):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Tensor]]:
    """Tensors copied to the host; counting of host reads stops there."""
    seen: list[Tensor] = []
    to_host = Tensor.cpu

    def cpu(self: Tensor) -> Tensor:
        seen.append(self)
        return to_host(self)

    monkeypatch.setattr(Tensor, "cpu", cpu)
    return seen


@pytest.mark.parametrize("beam", [1, 4])
def test_a_batch_is_copied_to_the_host_once(
    beam: int, monkeypatch: pytest.MonkeyPatch, copies: list[Tensor]
) -> None:
    model, rows = tiny_model(), sentences(6)
    # Asking for the end is the other way to the host; on a GPU nobody waits for the answer.
    monkeypatch.setattr(EndOfBatch, "reached", lambda self, ended: False)
    made, batch = generator([model], beam=beam, max_len_b=9), sample(rows, [[EOS]] * 6)
    reads = HostReads()
    monkeypatch.setattr(made, "_hypotheses", counting(made._hypotheses, reads))
    with reads:
        made.generate([model], batch)
    assert len(copies) == 1 and reads.seen == ["[copy]"]


def counting(unpack: Any, reads: HostReads) -> Any:
    """`unpack` reads from the host's copy: what it does is none of the device's business."""

    def wrapped(*args: Any) -> Any:
        reads.seen.append("[copy]")
        before = len(reads.seen)
        result = unpack(*args)
        del reads.seen[before:]
        return result

    return wrapped


def test_sequential_steps_grow_with_latents_and_not_with_words(monkeypatch: pytest.MonkeyPatch) -> None:
    for steps, most in ((0, 12), (1, 12), (2, 12), (3, 12)):
        model = longest_words(tiny_model(compress_steps=steps))
        calls = {"step": 0, "decoder": 0, "encoder": 0}
        step = model.predictor.step

        def counted(*args: Any, step: Any = step, calls: dict[str, int] = calls) -> Any:
            calls["step"] += 1
            return step(*args)

        model.predictor.step = counted  # type: ignore[method-assign]
        for name in ("decoder", "encoder"):
            stack: nn.Module = getattr(model, name)
            stack.register_forward_hook(
                lambda *_, name=name, calls=calls: calls.__setitem__(name, calls[name] + 1)  # type: ignore[misc]
            )
        translate([model], sentences(3), beam=2, max_len_b=most)
        assert calls == {"step": -(-(most + 1) // 2**steps) + 1, "decoder": 1, "encoder": 1}


def test_one_hypothesis_is_checked() -> None:
    options = Namespace(beam=2, nbest=2)
    with pytest.raises(UsageError, match="--verify-with: one translation is checked, leave --nbest 2 out"):
        LatentGenerator.from_options([], options, None, verifier=object())
