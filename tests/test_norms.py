"""The norms of the training pass: values and gradients of transformers, in the precision that the next layer wants."""

from __future__ import annotations

import pytest
import torch
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from rl.norms import use_fused_norms

KINDS = [LlamaRMSNorm, Qwen3RMSNorm, Gemma2RMSNorm]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 7, 48), (1, 7, 3, 48)])  # of a layer's input, and of heads
def test_values_and_gradients_are_those_of_transformers(kind, shape):
    torch.manual_seed(0)
    plain, fused = kind(48, eps=0.3), kind(48, eps=0.3)  # an eps that nobody can overlook
    with torch.no_grad():
        plain.weight.copy_(torch.randn(48))
        fused.weight.copy_(plain.weight)
    use_fused_norms(torch.nn.ModuleList([fused]))
    pull = torch.randn(shape)
    results = []
    for module in (plain, fused):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1), requires_grad=True)
        y = module(x)
        y.backward(pull)
        results.append((y, x.grad, module.weight.grad))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_under_autocast_the_output_is_bfloat16_and_the_norm_itself_float32():
    module = LlamaRMSNorm(64)
    use_fused_norms(module)
    x = 1000 + torch.randn(4, 64)  # in bfloat16 all would be one of three numbers
    exact = module(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = module(x)
    assert exact.dtype == torch.float32
    assert rounded.dtype == torch.bfloat16
    assert torch.equal(rounded, exact.to(torch.bfloat16))


def test_a_frozen_norm_passes_the_gradient_on_and_keeps_none():
    module = LlamaRMSNorm(16).requires_grad_(False)
    use_fused_norms(module)
    x = torch.randn(3, 16, requires_grad=True)
    module(x).sum().backward()
    assert x.grad is not None
    assert module.weight.grad is None
