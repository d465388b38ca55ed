"""What the criterion sums and what it logs."""

import math
from typing import Any

import pytest
import torch
from fairseq.logging import metrics
from tiny import padded, random_sample, tiny_model

from vqnat_plugin.criterions.vq_nat_loss import VQNATLoss
from vqnat_plugin.models.vq_nat import VQNAT

CODEBOOK = ("codebook_usage", "codebook_perplexity", "posterior_entropy", "distinct_codes")
EPOCH = ("codebook_usage_epoch", "codebook_perplexity_epoch", "revived_codes_epoch")


def logged(logs: list[dict[str, Any]]) -> dict[str, Any]:
    """What `reduce_metrics` logs, as shown to the user."""
    with metrics.aggregate(new_root=True) as meters:
        VQNATLoss.reduce_metrics(logs)
        return dict(meters.get_smoothed_values())


def log_of(model: VQNAT, batch: dict[str, Any]) -> dict[str, Any]:
    return VQNATLoss(None)(model, batch)[2]


def summed(logs: list[dict[str, Any]]) -> dict[str, Any]:
    """What fairseq's trainer makes of the logs of several workers."""
    return {name: sum(log[name] for log in logs) for name in logs[0]}


def test_loss_is_the_sum_of_the_models_losses() -> None:
    model, batch = tiny_model().train(), random_sample()
    out = model(**batch["net_input"], target=batch["target"])
    loss, sample_size, log = VQNATLoss(None)(model, batch)
    torch.testing.assert_close(loss, out.losses["words"] + out.losses["latents"] + out.losses["commitment"])
    assert sample_size == batch["ntokens"] == log["ntokens"] == log["sample_size"]
    assert loss.requires_grad and not any(torch.is_tensor(v) and v.requires_grad for v in log.values())
    assert all(not torch.is_tensor(value) or value.dim() == 0 for value in log.values())


def test_losses_are_logged_in_bits_a_target_token() -> None:
    model, batch = tiny_model(), random_sample()
    out, shown = model(**batch["net_input"], target=batch["target"]), logged([log_of(model, batch)])
    for name in ("words", "latents", "commitment"):
        bits = float(out.losses[name].detach()) / batch["ntokens"] / math.log(2)
        assert shown[f"{name}_loss"] == pytest.approx(bits, abs=1e-3)
    parts = sum(shown[f"{name}_loss"] for name in ("words", "latents", "commitment"))
    assert shown["loss"] == pytest.approx(parts, abs=2e-3)
    assert shown["words_ppl"] == pytest.approx(2 ** shown["words_loss"], rel=1e-2)
    latents = int(out.counts["latents"])
    nats = float(out.losses["latents"].detach()) / latents
    assert shown["predictor_ppl"] == pytest.approx(math.exp(nats), rel=1e-2)
    assert shown["predictor_accuracy"] == pytest.approx(
        int(out.metrics["predictor_correct"]) / latents, abs=1e-3
    )


def test_perplexity_is_that_of_words_not_of_smoothed_labels() -> None:
    batch = random_sample()
    smoothed, plain = (
        logged([log_of(tiny_model(label_smoothing=smoothing).train(), batch)]) for smoothing in (0.3, 0.0)
    )
    assert smoothed["words_loss"] != pytest.approx(plain["words_loss"], rel=1e-3)
    assert smoothed["words_ppl"] == plain["words_ppl"] == pytest.approx(2 ** plain["words_loss"], rel=1e-2)


def test_workers_together_log_what_one_logs_with_all_sentences() -> None:
    model = tiny_model()
    first, second = random_sample(3, seed=1), random_sample(5, seed=2)
    logs = [log_of(model, batch) for batch in (first, second)]
    # Trainers of several workers pass one summed log, those of one worker a list.
    together, apart = logged([summed(logs)]), logged(logs)
    assert together == apart
    both = {
        "ntokens": first["ntokens"] + second["ntokens"],
        "target": padded([*first["target"].tolist(), *second["target"].tolist()]),
        "net_input": {
            "src_tokens": padded(
                [row for b in (first, second) for row in b["net_input"]["src_tokens"].tolist()]
            ),
            "src_lengths": None,
            "prev_output_tokens": None,
        },
    }
    one = logged([log_of(model, both)])
    sums = ("loss", "words_loss", "latents_loss", "commitment_loss", "predictor_accuracy")
    for name in (*sums, "predictor_ppl", "words_ppl"):
        assert together[name] == pytest.approx(one[name], rel=1e-3, abs=2e-3), name
    for name in CODEBOOK:
        parts = [logged([log])[name] for log in logs]
        assert together[name] == pytest.approx(sum(parts) / 2, abs=2e-3), name


def test_codes_are_watched_from_the_first_quantised_update_on() -> None:
    model = tiny_model(start=False, unquantized_updates=1, bottleneck="em", em_temperature=50.0).train()
    before = logged([log_of(model, random_sample())])
    assert set(before) == {"loss", "words_loss", "latents_loss", "words_ppl"} and before["latents_loss"] == 0
    model.update_codebook()
    model.set_num_updates(1)
    shown = logged([log_of(model, random_sample())])
    assert set(CODEBOOK) | set(EPOCH) <= set(shown)
    assert 0 < shown["codebook_usage"] <= 1 < shown["codebook_perplexity"] <= 8
    assert 0 < shown["posterior_entropy"] < math.log(8) and 1 < shown["distinct_codes"] <= 8


def test_epoch_figures_are_running_ones() -> None:
    model = tiny_model(em_decay=0.5, code_revival=0.0).train()
    with metrics.aggregate(new_root=True) as meters:
        for seed in range(3):
            VQNATLoss.reduce_metrics([log_of(model, random_sample(seed=seed))])
            model.update_codebook()
        last = log_of(model, random_sample(seed=9))
        VQNATLoss.reduce_metrics([last])
        shown = meters.get_smoothed_values()
    assert shown["codebook_usage_epoch"] == pytest.approx(float(last["epoch_usage"]), abs=1e-3)
    assert shown["codebook_perplexity_epoch"] == pytest.approx(float(last["epoch_perplexity"]), abs=1e-3)
    histogram = model.quantizer.histogram
    assert shown["codebook_usage_epoch"] == pytest.approx(float((histogram > 0).double().mean()), abs=1e-3)


def test_evaluation_has_no_epoch_figures() -> None:
    shown = logged([log_of(tiny_model(), random_sample())])
    assert set(CODEBOOK) <= set(shown) and not set(EPOCH) & set(shown)


def test_nothing_is_logged_of_no_tokens() -> None:
    log = {name: 0 for name in log_of(tiny_model(), random_sample())}
    assert logged([log]) == {}


def test_logs_can_be_summed() -> None:
    assert VQNATLoss.logging_outputs_can_be_summed()
    log = log_of(tiny_model(), random_sample())
    assert all(isinstance(value, int | float) or value.dim() == 0 for value in log.values())
