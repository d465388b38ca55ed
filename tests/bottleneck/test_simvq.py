"""SimVQ against its equations."""

import torch

from vqnat_plugin.bottleneck import SimVQQuantizer


def test_losses_and_gradients() -> None:
    torch.manual_seed(0)
    quantizer = SimVQQuantizer(12, 4, commitment_weight=0.25)
    z = torch.randn(2, 7, 4, requires_grad=True)
    out = quantizer(z)
    codes = quantizer.basis @ quantizer.transform.weight.T
    torch.testing.assert_close(quantizer.codebook, codes)
    assert torch.equal(out.codes, torch.cdist(z, codes.expand(2, -1, -1)).argmin(-1))
    chosen = codes[out.codes]
    loss = (z.detach() - chosen).square().mean() + 0.25 * (z - chosen.detach()).square().mean()
    torch.testing.assert_close(out.commitment_loss, loss)
    one = torch.autograd.grad(out.commitment_loss, [z, quantizer.transform.weight], retain_graph=True)
    other = torch.autograd.grad(loss, [z, quantizer.transform.weight])
    torch.testing.assert_close(one, other)
    upstream = torch.randn(2, 7, 4)
    (gradient,) = torch.autograd.grad(out.quantized, z, upstream)
    assert torch.equal(gradient, upstream)


def test_only_the_layer_is_trained_and_all_codes_move_with_it() -> None:
    torch.manual_seed(1)
    quantizer = SimVQQuantizer(12, 4)
    assert [name for name, _ in quantizer.named_parameters()] == ["transform.weight"]
    before, basis = quantizer.codebook.detach().clone(), quantizer.basis.clone()
    optimizer = torch.optim.SGD(quantizer.parameters(), 0.1)
    # Vectors near to one code only.
    quantizer(before[3] + 0.3 * torch.randn(20, 4)).commitment_loss.backward()
    optimizer.step()
    assert torch.equal(quantizer.basis, basis)
    assert bool((quantizer.codebook != before).any(dim=1).all())


def test_codes_move_to_the_vectors() -> None:
    torch.manual_seed(2)
    quantizer = SimVQQuantizer(64, 2)
    optimizer = torch.optim.Adam(quantizer.parameters(), 0.02)
    z = torch.randn(300, 2) @ torch.tensor([[3.0, 0.0], [0.0, 0.3]])
    errors = []
    for _ in range(150):
        out = quantizer(z)
        optimizer.zero_grad()
        out.commitment_loss.backward()
        optimizer.step()
        errors.append(float(out.metrics["commitment"]))
    assert errors[-1] < 0.3 * errors[0]
    assert float(out.metrics["usage"]) > 0.5
