"""The predictor's loss against brute force."""

import pytest
import torch
from torch import Tensor

from vqnat_plugin.bottleneck import EMVectorQuantizer, QuantizerOutput
from vqnat_plugin.models.latent_loss import latent_loss

CODES, DIM = 5, 3
LENGTHS = [3, 1, 4]


def mask() -> Tensor:
    return torch.arange(4) < torch.tensor(LENGTHS)[:, None]


def quantized(assignment: str) -> QuantizerOutput:
    torch.manual_seed(1)
    quantizer = EMVectorQuantizer(CODES, DIM, assignment, samples=4, temperature=3.0)
    quantizer.set_codebook(torch.randn(CODES, DIM))
    return quantizer(torch.randn(3, 4, DIM), mask())


def brute_force(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy against labels (batch, latents, codes) and the end symbol, one after the other."""
    log_probabilities = logits.log_softmax(-1)
    total = torch.zeros(())
    for row, length in enumerate(LENGTHS):
        for position in range(length):
            total -= (labels[row, position] * log_probabilities[row, position, :CODES]).sum()
        total -= log_probabilities[row, length, CODES]
    return total


@pytest.mark.parametrize("assignment", ["hard", "monte_carlo", "posterior"])
def test_loss_is_the_cross_entropy_against_the_mean_assignment(assignment: str) -> None:
    out = quantized(assignment)
    logits = torch.randn(3, 5, CODES + 1, requires_grad=True)
    loss, count, correct = latent_loss(logits, mask(), out)
    expected = brute_force(logits, out.soft_codes)
    torch.testing.assert_close(loss, expected)
    assert int(count) == sum(LENGTHS) + len(LENGTHS)
    best = logits.argmax(-1)
    hits = sum(int(best[row, i] == out.codes[row, i]) for row, n in enumerate(LENGTHS) for i in range(n))
    assert int(correct) == hits + sum(int(best[row, n] == CODES) for row, n in enumerate(LENGTHS))
    torch.testing.assert_close(
        torch.autograd.grad(loss, logits, retain_graph=True), torch.autograd.grad(expected, logits)
    )


def test_samples_count_as_a_mean_and_not_as_their_most_frequent_one() -> None:
    out = quantized("monte_carlo")
    assert out.samples is not None and (out.samples != out.samples[..., :1])[mask()].any()
    logits = torch.randn(3, 5, CODES + 1)
    one_by_one = []
    for number in range(4):
        labels = torch.nn.functional.one_hot(out.samples[..., number], CODES).float()
        one_by_one.append(brute_force(logits, labels))
    torch.testing.assert_close(latent_loss(logits, mask(), out)[0], torch.stack(one_by_one).mean())


def test_labels_carry_no_gradient() -> None:
    quantizer = EMVectorQuantizer(CODES, DIM, "posterior", temperature=3.0)
    quantizer.set_codebook(torch.randn(CODES, DIM))
    z = torch.randn(3, 4, DIM, requires_grad=True)
    loss, _, _ = latent_loss(torch.randn(3, 5, CODES + 1, requires_grad=True), mask(), quantizer(z, mask()))
    loss.backward()
    assert z.grad is None


def test_perfect_prediction_costs_nothing_and_is_all_correct() -> None:
    out = quantized("hard")
    logits = torch.full((3, 5, CODES + 1), -50.0)
    for row, length in enumerate(LENGTHS):
        for position in range(length):
            logits[row, position, out.codes[row, position]] = 50.0
        logits[row, length, CODES] = 50.0
    loss, count, correct = latent_loss(logits, mask(), out)
    assert float(loss) == 0.0 and int(correct) == int(count)
    # What stands behind the end is of no account.
    logits[1, 3:] = torch.randn(2, CODES + 1)
    assert float(latent_loss(logits, mask(), out)[0]) == 0.0


def test_without_codes_only_the_end_counts() -> None:
    logits = torch.randn(3, 5, CODES + 1)
    loss, count, correct = latent_loss(logits, mask(), None)
    at_end = logits[range(3), LENGTHS]
    torch.testing.assert_close(loss, -at_end.log_softmax(-1)[:, CODES].sum())
    assert int(count) == 3 and int(correct) == int((at_end.argmax(-1) == CODES).sum())


def test_half_precision_logits_are_summed_in_fp32() -> None:
    loss, _, _ = latent_loss(torch.randn(3, 5, CODES + 1).bfloat16(), mask(), quantized("hard"))
    assert loss.dtype == torch.float32
