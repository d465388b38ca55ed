"""The translation model: losses, gradients, schedules, padding, precision."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny import (
    DIM,
    PAD,
    VOCABULARY,
    different,
    model_state,
    padded,
    random_sample,
    sample,
    sentences,
    tiny_model,
)
from torch import Tensor

from vqnat_plugin.bottleneck import kinds
from vqnat_plugin.bottleneck.quantizer import BATCHES_WITHOUT_M_STEP
from vqnat_plugin.models.vq_nat import VQNAT, VQNATOutput, gold_share

WITHOUT_EM = [{"bottleneck": kind, "codebook_size": 12} for kind in ("fsq", "gradient", "gumbel", "simvq")]


def run(model: VQNAT, batch: dict[str, Any], **options: Any) -> VQNATOutput:
    return model(**batch["net_input"], target=batch["target"], **options)


def test_gold_share_is_that_of_the_reference_code() -> None:
    shares = [gold_share(update, 50_000) for update in (0, 10_000, 20_000, 49_999, 50_000, 90_000)]
    assert shares == pytest.approx([1e-4, 0.0828, 0.406, 1.0, 1.0, 1.0], rel=1e-2)
    assert shares[3] < shares[4] == shares[5] == 1.0
    assert gold_share(0, 0) == 1.0


# Padding.


def test_sources_padded_on_either_side_give_the_same_states() -> None:
    model, rows = tiny_model(encoder_layers=2), sentences(6)
    left, right = padded(rows, left=True), padded(rows, extra=3)
    states = model.encode(left).states[left.ne(PAD)], model.encode(right).states[right.ne(PAD)]
    torch.testing.assert_close(*states)
    assert model.encode(right).lengths.tolist() == list(map(len, rows))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"compressor_layers": 1, "compress_steps": 2},
        {"decoder_attention": "causal"},
        {"bottleneck": "posterior"},
    ],
)
def test_losses_do_not_depend_on_padding(changes: dict[str, Any]) -> None:
    model, batch = tiny_model(**changes), random_sample(6)
    expected = run(model, batch)
    batch["net_input"]["src_tokens"] = F.pad(batch["net_input"]["src_tokens"], (2, 3), value=PAD)
    batch["target"] = F.pad(batch["target"], (0, 5), value=PAD)
    found = run(model, batch)
    torch.testing.assert_close(found.losses, expected.losses)
    torch.testing.assert_close(found.counts, expected.counts)
    torch.testing.assert_close(found.metrics, expected.metrics)


def test_losses_of_a_batch_are_the_sum_over_its_sentences() -> None:
    model, rows, targets = tiny_model(), sentences(5), sentences(5, seed=9)
    whole = run(model, sample(rows, targets))
    alone = [run(model, sample([row], [target])) for row, target in zip(rows, targets, strict=True)]
    for name in ("words", "latents", "commitment"):
        torch.testing.assert_close(whole.losses[name], torch.stack([out.losses[name] for out in alone]).sum())
        assert int(whole.counts[name]) == sum(int(out.counts[name]) for out in alone)


def test_garbage_in_padded_latents_never_reaches_the_words() -> None:
    for attention in ("bidirectional", "causal"):
        model = tiny_model(decoder_attention=attention, decoder_layers=2)
        memory = model.encode(padded(sentences(3)))
        keys = model.decoder.project(memory.states)
        mask = torch.arange(5) < torch.tensor([[2], [5], [1]])
        latents = torch.randn(3, 5, model.config.embed_dim)
        states = model.decode(latents, mask, keys, memory.mask)
        garbage = latents + 9 * ~mask[..., None]
        real = mask.repeat_interleave(2, 1)
        torch.testing.assert_close(model.decode(garbage, mask, keys, memory.mask)[real], states[real])


# Losses and their gradients.


def test_words_cost_their_cross_entropy_and_commitment_its_distance() -> None:
    model, batch = tiny_model(), random_sample()
    out, target = run(model, batch), batch["target"]
    memory = model.encode(batch["net_input"]["src_tokens"])
    z, mask = model.compress(target, memory)
    codes = model.quantizer(z, mask).codes
    nearest = torch.cdist(z, model.quantizer.codebook.expand(len(z), -1, -1)).argmin(-1)
    assert torch.equal(codes[mask], nearest[mask])
    vectors = model.quantizer.codebook[codes] * mask[..., None]
    states = model.decode(vectors, mask, model.decoder.project(memory.states), memory.mask)
    logits = states[:, : target.size(1)] @ model.output_weight.T
    words = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=PAD, reduction="sum")
    torch.testing.assert_close(out.losses["words"], words, rtol=1e-4, atol=1e-4)
    assert int(out.counts["words"]) == batch["ntokens"]
    commitment = 0.25 * (z - vectors)[mask].square().mean() * 2 * mask.sum()
    torch.testing.assert_close(out.losses["commitment"], commitment)
    assert set(out.losses) == {"words", "latents", "commitment"}


def test_label_smoothing_counts_in_training_only() -> None:
    batch = random_sample()
    plain, smoothed = tiny_model(), tiny_model(label_smoothing=0.2)
    torch.testing.assert_close(run(plain, batch).losses["words"], run(smoothed, batch).losses["words"])
    memory = plain.encode(batch["net_input"]["src_tokens"])
    out = plain.bottleneck(*plain.compress(batch["target"], memory), accumulate=False)
    assert out is not None
    _, mask = plain.compress(batch["target"], memory)
    states = plain.decode(out.quantized, mask, plain.decoder.project(memory.states), memory.mask)
    log_probabilities = (states[:, : batch["target"].size(1)] @ plain.output_weight.T).log_softmax(-1)
    real = batch["target"].ne(PAD)
    true = log_probabilities.gather(-1, batch["target"][..., None]).squeeze(-1)[real].sum()
    expected = -0.8 * true - 0.2 * log_probabilities[real].sum() / VOCABULARY
    found = run(smoothed.train(), batch).losses["words"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "reached"), [("detached", False), ("joint", True)])
def test_predictor_trains_the_compressor_only_if_asked_to(kind: str, reached: bool) -> None:
    model = tiny_model(predictor_gradient=kind).train()
    run(model, random_sample()).losses["latents"].backward()
    assert any(p.grad is not None and p.grad.any() for p in model.predictor.parameters())
    assert any(p.grad is not None and p.grad.any() for p in model.encoder.parameters())
    assert any(p.grad is not None and p.grad.any() for p in model.compressor.parameters()) == reached


def test_word_loss_is_that_of_smoothed_labels() -> None:
    model, batch = tiny_model(label_smoothing=0.2).train(), random_sample()
    states = torch.randn(*batch["target"].shape, DIM, requires_grad=True)
    loss, nll = model._word_loss(states, batch["target"])
    logits, flat = F.linear(states.flatten(0, 1), model.output_weight), batch["target"].flatten()
    expected = F.cross_entropy(logits, flat, reduction="sum", ignore_index=PAD, label_smoothing=0.2)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(nll, F.cross_entropy(logits, flat, reduction="sum", ignore_index=PAD))
    gradients = [torch.autograd.grad(each, states, retain_graph=True)[0] for each in (loss, expected)]
    torch.testing.assert_close(*gradients)


def test_word_loss_trains_everything_but_predictor_and_codes() -> None:
    model = tiny_model().train()
    run(model, random_sample()).losses["words"].backward()
    for name, parameter in model.named_parameters():
        trained = parameter.grad is not None and bool(parameter.grad.any())
        assert trained != name.startswith("predictor."), name
    assert not any(name.startswith("quantizer") for name, _ in model.named_parameters())


@pytest.mark.parametrize("bottleneck", kinds())
def test_every_kind_of_bottleneck_trains_and_decodes(bottleneck: str) -> None:
    model = tiny_model(bottleneck=bottleneck, codebook_size=12, start=False).train()
    if not model.quantizer.initialized:
        model.quantizer.set_codebook(torch.randn(model.quantizer.codebook.shape))
    out = run(model, random_sample())
    sum(out.losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name
    assert float(sum(p.grad.abs().sum() for p in model.compressor.parameters())) > 0
    model.set_num_updates(1)
    model.update_codebook()
    model.discard_statistics()
    model.eval()
    memory = model.encode(random_sample()["net_input"]["src_tokens"])
    z, mask = model.compress(random_sample()["target"], memory)
    codes = model.quantizer.encode(z, mask)
    vectors = model.quantizer.lookup(codes)
    torch.testing.assert_close(vectors * mask[..., None], model.quantizer(z, mask).quantized)
    torch.testing.assert_close(vectors, model.quantizer.codebook[codes])


def test_gumbel_softmax_as_bottleneck_trains_its_codes_by_gradients() -> None:
    model = tiny_model(bottleneck="gumbel", start=False).train()
    out = run(model, random_sample())
    sum(out.losses.values()).backward()
    assert float(model.quantizer.codebook.grad.abs().sum()) > 0
    before = model_state(model)
    model.update_codebook()
    model.discard_statistics()
    assert different(before, model_state(model)) == []
    # The divergence is paid once a latent, at its weight.
    latents = out.counts["latents"] - random_sample()["target"].size(0)
    paid = model.config.commitment_weight * out.metrics["commitment"] * latents
    torch.testing.assert_close(out.losses["commitment"], paid)


def test_latent_loss_is_weighted_in_training_only() -> None:
    plain, weighted, batch = tiny_model(), tiny_model(latent_weight=0.5), random_sample()
    expected = run(plain, batch).losses["latents"]
    torch.testing.assert_close(run(weighted, batch).losses["latents"], expected)
    trained = run(weighted.train(), batch)
    torch.testing.assert_close(trained.losses["latents"], 0.5 * expected)
    torch.testing.assert_close(trained.metrics["latent_nll"], expected)


# Schedules.


def test_codebook_starts_from_data_at_the_right_update_and_once() -> None:
    model, batch = (
        tiny_model(start=False, unquantized_updates=3, em_decay=0.5, code_revival=0.0),
        random_sample(),
    )
    model.train()
    at_start = model_state(model.quantizer)
    for update in range(3):
        model.set_num_updates(update)
        assert different(at_start, model_state(model.quantizer)) == []
        out = run(model, batch)
        assert "commitment" not in out.losses and not out.losses["latents"]
        assert not model.quantizer.initialized
        model.update_codebook()
    assert model.quantizer.initialized
    codes = model.quantizer.codebook.clone()
    z, mask = model.compress(batch["target"], model.encode(batch["net_input"]["src_tokens"]))
    assert torch.cdist(z[mask], codes).amin(1).mean() < torch.cdist(z[mask], z[mask]).mean() / 2
    model.set_num_updates(3)
    assert "commitment" in run(model, batch).losses
    assert torch.equal(model.quantizer.codebook, codes)
    model.update_codebook()
    moved = model.quantizer.codebook.clone()
    assert not torch.equal(moved, codes)
    model.set_num_updates(4)
    run(model, batch)
    assert torch.equal(model.quantizer.codebook, moved)


def test_codebook_starts_from_all_batches_of_an_update() -> None:
    model = tiny_model(start=False, unquantized_updates=1).train()
    parts = [random_sample(seed=seed) for seed in range(3)]
    # What a failed update has seen does not count.
    run(model, parts[2])
    model.discard_statistics()
    for part in parts[:2]:
        run(model, part)
    model(**parts[2]["net_input"], target=parts[2]["target"], accumulate=False)
    model.update_codebook()
    latents = sum(int((-(-part["target"].ne(PAD).sum(1) // 2)).sum()) for part in parts[:2])
    assert float(model.quantizer.counts.sum()) == pytest.approx(latents, rel=1e-6)
    model.set_num_updates(1)
    assert run(model, parts[0]).losses["commitment"] > 0


def test_unquantized_updates_let_latents_through() -> None:
    model = tiny_model(start=False, bottleneck="gradient", unquantized_updates=5).train()
    batch = random_sample()
    memory = model.encode(batch["net_input"]["src_tokens"])
    z, mask = model.compress(batch["target"], memory)
    assert model.bottleneck(z, mask, accumulate=True) is None
    model.set_num_updates(5)
    out = model.bottleneck(z, mask, accumulate=True)
    assert out is not None and not torch.allclose(out.quantized[mask], z[mask], atol=1e-2)
    model.update_codebook()
    model.set_num_updates(0)
    # Codes that are there are used in evaluation, however young the model is.
    assert model.eval().bottleneck(z, mask, accumulate=True) is not None


@pytest.mark.parametrize("changes", [{}, {"codebook_init": "random"}, *WITHOUT_EM], ids=str)
def test_codes_that_are_there_are_used_in_a_training_that_begins_anew(changes: dict[str, Any]) -> None:
    changes = {"start": False, "unquantized_updates": 5, **changes}
    model = tiny_model(**changes).train()
    z, mask = model.compress(
        random_sample()["target"], model.encode(random_sample()["net_input"]["src_tokens"])
    )
    for update in range(5):
        model.set_num_updates(update)
        assert model.bottleneck(z, mask, accumulate=True) is None
        model.update_codebook()
    # As with --finetune-from-model or --reset-optimizer.
    other = tiny_model(**changes).train()
    other.load_state_dict(model.state_dict())
    for each in (model, other):
        each.set_num_updates(0)
        assert each.bottleneck(z, mask, accumulate=True) is not None


@pytest.mark.parametrize("changes", WITHOUT_EM, ids=str)
def test_a_state_of_before_says_that_codes_are_in_use(changes: dict[str, Any]) -> None:
    model = tiny_model(start=False, unquantized_updates=5, **changes)
    state = model.state_dict()
    assert not model.quantized and not state.pop("started")
    model.load_state_dict(state)
    assert model.quantized


@pytest.mark.parametrize("changes", WITHOUT_EM, ids=str)
@pytest.mark.parametrize("quantized", [False, True])
def test_no_update_leaves_parameters_out(changes: dict[str, Any], quantized: bool) -> None:
    """Processes wait for the gradient of each; an optimizer counts the steps of those that have one."""
    model = tiny_model(start=False, unquantized_updates=3, **changes).train()
    model.set_num_updates(3 if quantized else 2)
    out = run(model, random_sample())
    assert ("commitment" in out.counts) == quantized
    torch.stack(list(out.losses.values())).sum().backward()
    gradients = [each.grad for each in model.quantizer.parameters()]
    assert gradients and all(each is not None for each in gradients)
    assert any(each is not None and bool(each.any()) for each in gradients) == quantized


def test_many_batches_of_one_update_are_no_mistake(recwarn: pytest.WarningsRecorder) -> None:
    model = tiny_model().train()
    assert model.quantizer.update == "manual"
    for _ in range(BATCHES_WITHOUT_M_STEP + 1):
        model.quantizer(torch.randn(3, DIM))
    assert not recwarn.list


@pytest.mark.parametrize("changes", [{}, *WITHOUT_EM], ids=str)
def test_a_model_without_codes_is_never_the_best(changes: dict[str, Any]) -> None:
    model = tiny_model(start=False, unquantized_updates=5, **changes)
    losses = run(model, random_sample()).losses
    assert losses and all(loss.isinf() for loss in losses.values())
    assert all(loss.isfinite() for loss in run(model.train(), random_sample()).losses.values())


def test_tables_that_grow_are_not_exchanged() -> None:
    model = tiny_model()
    tables = [name for name, _ in model.named_buffers() if name.endswith("table")]
    assert len(tables) >= 2 and set(model._ddp_params_and_buffers_to_ignore) == set(tables)


def test_random_codes_do_not_start_from_data() -> None:
    model = tiny_model(start=False, codebook_init="random", unquantized_updates=2).train()
    codes = model.quantizer.codebook.clone()
    for update in range(2):
        model.set_num_updates(update)
        assert "commitment" not in run(model, random_sample()).losses
        model.update_codebook()
        assert torch.equal(model.quantizer.codebook, codes)
    model.set_num_updates(2)
    assert "commitment" in run(model, random_sample()).losses
    model.update_codebook()
    assert not torch.equal(model.quantizer.codebook, codes)


def test_predictor_is_trained_from_its_start_on() -> None:
    model, batch = tiny_model(latent_start=4).train(), random_sample()
    model.set_num_updates(3)
    before = run(model, batch)
    assert float(before.losses["latents"]) == 0.0 < float(before.metrics["latent_nll"])
    model.set_num_updates(4)
    assert float(run(model, batch).losses["latents"]) > 0


def test_codes_are_replaced_until_the_last_update_of_revival() -> None:
    model = tiny_model(codebook_size=64, em_decay=0.1, code_revival=0.5, code_revival_until=2).train()
    revived = []
    for update in range(4):
        model.set_num_updates(update)
        # New sentences each time: those seen before are on codes already.
        run(model, random_sample(seed=update))
        model.update_codebook()
        revived.append(int(model.quantizer.revived))
    assert 0 < revived[0] < revived[1] == revived[2] == revived[3]


def test_nearest_codes_only_after_a_soft_start() -> None:
    model, batch = tiny_model(bottleneck="em", em_temperature=50.0, em_hard_from=2).train(), random_sample()
    distinct = []
    for update in (0, 1, 2, 3, 1):
        model.set_num_updates(update)
        distinct.append(float(run(model, batch).metrics["distinct_codes"]))
    assert distinct[2] == distinct[3] == 1 < min(distinct[0], distinct[1], distinct[4])


def test_revival_can_be_switched_off() -> None:
    model = tiny_model(codebook_size=64, em_decay=0.1, code_revival=0.0).train()
    for update in range(4):
        model.set_num_updates(update)
        run(model, random_sample(seed=update))
        model.update_codebook()
    assert int(model.quantizer.revived) == 0


def test_codes_are_not_put_where_others_are() -> None:
    model = tiny_model(codebook_size=64, em_decay=0.1, code_revival=0.5).train()
    for _ in range(3):
        run(model, random_sample())
        model.update_codebook()
    # One update has moved stale codes onto all latents of the batch, and more would only make doubles.
    assert len(model.quantizer.codebook.unique(dim=0)) == 64


def test_dummy_batch_leaves_no_trace_in_the_codebook() -> None:
    model = tiny_model(em_decay=0.5).train()
    before = model_state(model.quantizer)
    run(model, random_sample(), accumulate=False)
    model.update_codebook()
    assert different(before, model_state(model.quantizer)) == []
    run(model, random_sample())
    model.update_codebook()
    assert "codebook" in different(before, model_state(model.quantizer))


def test_evaluation_leaves_no_trace_in_the_codebook() -> None:
    model = tiny_model(em_decay=0.5)
    before = model_state(model.quantizer)
    run(model, random_sample())
    model.update_codebook()
    assert different(before, model_state(model.quantizer)) == []


# The decoder's attention.


def words_that_move(model: VQNAT, place: int) -> list[bool]:
    """At which positions the decoder's states change with the true word at `place`, all else being equal."""
    gold = torch.randint(4, VOCABULARY, (1, 8))
    changed = gold.clone()
    changed[0, place] = 4 + (gold[0, place] - 3) % (VOCABULARY - 4)
    memory, latents = model.encode(padded(sentences(1))), torch.randn(1, 4, model.config.embed_dim)
    states: list[Tensor] = []
    for words in (gold, changed):
        torch.manual_seed(2)
        mask = torch.ones(1, 4, dtype=torch.bool)
        states.append(model.decode(latents, mask, model.decoder.project(memory.states), memory.mask, words))
    return ((states[0] - states[1]).abs().amax((0, 2)) > 1e-6).tolist()


def test_causal_decoder_never_sees_the_word_it_writes() -> None:
    model = tiny_model(decoder_attention="causal", gold_mixing_updates=1000, decoder_layers=2)
    assert words_that_move(model, 3) == [False] * 4 + [True] * 4
    # Once the mixing has ended it sees no true word at all.
    model.set_num_updates(1000)
    assert words_that_move(model, 3) == [False] * 8


def test_gold_is_mixed_in_training_only() -> None:
    model, batch = tiny_model(decoder_attention="causal", gold_mixing_updates=1000), random_sample()
    without = tiny_model(decoder_attention="causal")
    torch.testing.assert_close(run(model, batch).losses, run(without, batch).losses)
    mixed, plain = run(model.train(), batch), run(without.train(), batch)
    assert not torch.allclose(mixed.losses["words"], plain.losses["words"])
    torch.testing.assert_close(mixed.losses["latents"], plain.losses["latents"])


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_only_the_bidirectional_decoder_looks_ahead(attention: str) -> None:
    model = tiny_model(decoder_attention=attention, compress_steps=0)
    memory, mask = model.encode(padded(sentences(1))), torch.ones(1, 6, dtype=torch.bool)
    latents = torch.randn(1, 6, model.config.embed_dim)
    changed = latents.clone()
    changed[:, 3] = torch.randn(model.config.embed_dim)
    states = [
        model.decode(x, mask, model.decoder.project(memory.states), memory.mask) for x in (latents, changed)
    ]
    moved = ((states[0] - states[1]).abs().amax((0, 2)) > 1e-6).tolist()
    assert moved == ([False] * 4 + [True] * 2 if attention == "causal" else [True] * 6)


# Precision and state.


@pytest.mark.parametrize("bottleneck", ["em", "hard", "posterior"])
def test_half_precision_model_keeps_codes_and_losses_in_fp32(bottleneck: str) -> None:
    model, batch = tiny_model(bottleneck=bottleneck, em_decay=0.5), random_sample()
    expected = run(model, batch)
    rounded = run(model.bfloat16(), batch)
    torch.testing.assert_close(rounded.losses["words"], expected.losses["words"], rtol=0.03, atol=0.0)
    out = run(model.train(), batch)
    assert {loss.dtype for loss in out.losses.values()} == {torch.float32}
    torch.stack(list(out.losses.values())).sum().backward()
    model.update_codebook()
    for name, buffer in model.quantizer.named_buffers():
        assert buffer.dtype in (torch.float32, torch.float64, torch.int64), name
    codes = model.quantizer.codebook
    assert not torch.equal(codes, codes.bfloat16().float())


def test_autocast_gives_losses_in_fp32() -> None:
    model, batch = tiny_model().train(), random_sample()
    expected = run(model, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = run(model, batch)
    assert {loss.dtype for loss in out.losses.values()} == {torch.float32}
    torch.testing.assert_close(out.losses["words"], expected.losses["words"], rtol=0.03, atol=0.0)


def test_saved_model_is_the_same_model() -> None:
    model, other, batch = tiny_model(seed=1), tiny_model(seed=2, start=False), random_sample()
    other.load_state_dict(model.state_dict())
    assert other.quantizer.initialized
    torch.testing.assert_close(run(other, batch).losses, run(model, batch).losses)


def test_one_word_and_code_dimension_of_its_own() -> None:
    model = tiny_model(code_dim=6, compress_steps=3)
    out = run(model, sample([[5, 2]], [[2]]))
    assert int(out.counts["words"]) == 1 and int(out.counts["latents"]) == 2
    assert torch.isfinite(torch.stack(list(out.losses.values()))).all()
