"""RMSNorm of the training pass, in fewer sweeps over memory than transformers' modules take.

T  tokens        H  hidden size

y = x / rms(x) * w        rms(x) = sqrt(mean(x^2) + eps)        arXiv:1910.07467, eq. 4
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn


class _RMSNorm(torch.autograd.Function):
    """In float32 whatever comes in; what goes out is in `dtype`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        x32 = x.float()
        inverse = torch.rsqrt(torch.linalg.vector_norm(x32, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps))
        ctx.save_for_backward(x, weight, inverse)
        return (x32 * inverse).mul_(weight.float()).to(dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, weight, inverse = ctx.saved_tensors
        normal, scale = x.float() * inverse, weight.float()
        pull = grad * normal
        weight_grad = pull.flatten(0, -2).sum(0).to(weight.dtype) if ctx.needs_input_grad[1] else None
        along = (pull @ scale).unsqueeze(-1).div_(x.shape[-1])
        through = grad * scale  # float32 whatever grad is in
        return through.addcmul_(normal, along, value=-1).mul_(inverse).to(x.dtype), weight_grad, None, None


def use_fused_norms(model: nn.Module) -> None:
    """Every RMSNorm of the model's families computes as above, in place of its own forward. Its parameters stay."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = MethodType(_forward, module)


def _forward(module: Any, x: Tensor) -> Tensor:
    device = x.device.type
    # What follows a norm are products: under autocast they would each make their own copy in bfloat16.
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    is_gemma = "Gemma" in type(module).__name__  # its weight counts from one
    weight = module.weight + 1 if is_gemma else module.weight
    eps = module.variance_epsilon if hasattr(module, "variance_epsilon") else module.eps
    return _RMSNorm.apply(x, weight, eps, dtype)
