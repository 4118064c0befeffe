"""A causal LM of the usual families as a plain function of its weights, laid out for sampling.

    T  tokens of one pass, of any rows        H  hidden size        V  vocabulary
    A  query heads     K  key-value heads     D  head size

The query, key and value projections of a layer are one matrix here, and so are its gate and up projections. The
parameters of the transformers model are views of these, so new weights reach both. What a token attends to is the
caller's business: `forward` calls back with the queries, keys and values of each layer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from rl import attention

# The latent attention of DeepSeek-V3 has other projections than a Layer.
FAMILIES = tuple(family for family in attention.FAMILIES if family != "deepseek_v3")

# (layer, queries [T, A, D], keys [T, K, D], values [T, K, D]) -> [T, A * D]
Attend = Callable[["Layer", Tensor, Tensor, Tensor], Tensor]

# oneDNN prepares each product anew for every number of rows and remembers 1,024: too few for 256 rows that end in turn.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16384")

WORTH_PACKING = 150_000  # weights of a matrix; for fewer the call itself costs more than it saves


class Linear:
    """x W^T + b. On a CPU the weights are kept once more in oneDNN's own order, which every call would else make."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight, bias
        self.packed: Tensor | None = None

    def refresh(self) -> None:
        """After the weights changed."""
        on_cpu = self.weight.device.type == "cpu" and torch.backends.mkldnn.is_available()
        if on_cpu and self.weight.numel() >= WORTH_PACKING:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight)

    def __call__(self, x: Tensor) -> Tensor:
        if self.packed is None:
            return F.linear(x, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")


class Norm:
    """RMSNorm in float32; Gemma's weight counts from one."""

    def __init__(self, module: Any, from_one: bool) -> None:
        self.module, self.from_one = module, from_one
        self.eps = float(getattr(module, "variance_epsilon", getattr(module, "eps", 0.0)))
        self.weight = self.floor = torch.empty(0)

    def refresh(self) -> None:
        self.weight = self.module.weight.float() + float(self.from_one)
        self.floor = self.weight.new_tensor([self.eps])

    def __call__(self, x: Tensor) -> Tensor:
        # F.rms_norm is made of more operations on a CPU.
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return (x * torch.addcmul(self.floor, norm, norm, value=1 / x.shape[-1]).rsqrt_()).mul_(self.weight)


@dataclass(slots=True)
class Layer:
    """One decoder layer. The norms after attention and after the MLP are Gemma 2's and 3's."""

    index: int
    heads: int  # A
    kv_heads: int  # K
    head_size: int  # D
    scale: float  # of the attention scores
    window: int | None  # tokens that a token sees, itself included; None: all
    softcap: float | None  # of the attention scores
    rope: str | None  # which of the model's rotary embeddings, where it has several
    qkv: Linear
    out: Linear
    query_norm: Norm | None
    key_norm: Norm | None
    before_attention: Norm
    after_attention: Norm | None
    before_mlp: Norm
    after_mlp: Norm | None
    mlp: Callable[[Tensor], Tensor]


class DenseMLP:
    """down(act(gate(x)) * up(x))."""

    def __init__(self, module: Any) -> None:
        self.gate_up = fused([module.gate_proj, module.up_proj])
        self.down = Linear(module.down_proj.weight, module.down_proj.bias)
        self.act = module.act_fn

    def __call__(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(self.act(gate) * up)


def fused(modules: Sequence[nn.Linear]) -> Linear:
    """Several projections of one input as one; the modules' parameters become views of it."""
    weight = torch.cat([module.weight.detach() for module in modules])
    bias = None if modules[0].bias is None else torch.cat([module.bias.detach() for module in modules])
    start = 0
    for module in modules:
        end = start + len(module.weight)
        module.weight.data = weight[start:end]
        if bias is not None:
            module.bias.data = bias[start:end]
        start = end
    return Linear(weight, bias)


def check_family(model: PreTrainedModel) -> None:
    """ValueError for a model whose layers this file does not describe."""
    kind = model.config.model_type
    if kind not in FAMILIES:
        raise ValueError(f"rollout=native knows {', '.join(FAMILIES)}, not {kind}: take rollout=hf (or vllm on a GPU)")


class Decoder:
    """The forward pass. Between the layers it is in float32, inside their matrices in the dtype of the weights."""

    def __init__(self, model: PreTrainedModel) -> None:
        check_family(model)
        base: Any = model.get_decoder()
        self.base, self.config = base, model.config
        self.dtype, self.device = model.dtype, model.device
        # Keys, values and scores in bfloat16 would cost accuracy, and on a CPU save no time.
        self.kv_dtype = torch.float32 if self.device.type == "cpu" else self.dtype
        from_one = self.config.model_type.startswith("gemma")
        self.layers = [_layer(i, module, self.config, from_one) for i, module in enumerate(base.layers)]
        self.final_norm = Norm(base.norm, from_one)
        head: Any = model.get_output_embeddings()
        self.head = Linear(head.weight, head.bias)
        self.softcap = getattr(self.config, "final_logit_softcapping", None)
        self.refresh()

    @property
    def kv_bytes_per_token(self) -> int:
        layer = self.layers[0]
        return 2 * len(self.layers) * layer.kv_heads * layer.head_size * self.kv_dtype.itemsize

    def refresh(self) -> None:
        """After the model's parameters changed."""
        for part in _parts(self):
            part.refresh()

    def forward(self, token_ids: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """[T], [T] -> hidden states [T, H] float32, before the last norm."""
        x = self.base.embed_tokens(token_ids).float()
        ropes = {name: self._rope(x, positions, name) for name in {layer.rope for layer in self.layers}}
        for layer in self.layers:
            q, k, v = self._project(layer, layer.before_attention(x), ropes[layer.rope])
            mixed = layer.out(attend(layer, q, k, v).to(self.dtype))
            x = x + (mixed if layer.after_attention is None else layer.after_attention(mixed.float()))
            mixed = layer.mlp(layer.before_mlp(x).to(self.dtype))
            x = x + (mixed if layer.after_mlp is None else layer.after_mlp(mixed.float()))
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        """[T, H] -> [T, V], in the dtype of the weights."""
        logits = self.head(self.final_norm(hidden).to(self.dtype))
        return logits if self.softcap is None else torch.tanh(logits / self.softcap) * self.softcap

    def _rope(self, x: Tensor, positions: Tensor, name: str | None) -> tuple[Tensor, Tensor]:
        """cos and sin [T, 1, D]; the sine with the sign of rotate_half, for a rotation by half the head."""
        of_kind = () if name is None else (name,)
        cos, sin = (part[0].unsqueeze(1) for part in self.base.rotary_emb(x, positions.unsqueeze(0), *of_kind))
        first, second = sin.chunk(2, dim=-1)
        return cos, torch.cat((-first, second), dim=-1)

    def _project(self, layer: Layer, x: Tensor, rope: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [T, A, D], keys and values [T, K, D], float32, rotated."""
        rows = layer.qkv(x.to(self.dtype)).float().view(len(x), layer.heads + 2 * layer.kv_heads, layer.head_size)
        turned, v = rows.split((layer.heads + layer.kv_heads, layer.kv_heads), dim=1)
        if layer.query_norm is not None and layer.key_norm is not None:
            q, k = turned.split((layer.heads, layer.kv_heads), dim=1)
            turned = torch.cat((layer.query_norm(q), layer.key_norm(k)), dim=1)
        cos, sin = rope
        turned = torch.addcmul(turned * cos, turned.roll(layer.head_size // 2, dims=-1), sin)
        q, k = turned.split((layer.heads, layer.kv_heads), dim=1)
        return q, k, v


def _layer(index: int, module: Any, config: Any, from_one: bool) -> Layer:
    attention = module.self_attn
    size = attention.head_dim
    kinds = getattr(config, "layer_types", None)
    kind = kinds[index] if kinds else None
    window = getattr(attention, "sliding_window", None)
    if config.model_type == "mistral":
        window = config.sliding_window
    has_post_norms = hasattr(module, "pre_feedforward_layernorm")  # Gemma 2 and 3

    def norm(of: Any, name: str, wanted: bool = True) -> Norm | None:
        found = getattr(of, name, None)
        return Norm(found, from_one) if wanted and found is not None else None

    before_mlp = "pre_feedforward_layernorm" if has_post_norms else "post_attention_layernorm"
    return Layer(
        index=index,
        heads=attention.q_proj.out_features // size,
        kv_heads=attention.k_proj.out_features // size,
        head_size=size,
        scale=attention.scaling,
        window=window,
        softcap=getattr(attention, "attn_logit_softcapping", None),
        rope=kind if config.model_type == "gemma3_text" else None,
        qkv=fused([attention.q_proj, attention.k_proj, attention.v_proj]),
        out=Linear(attention.o_proj.weight, attention.o_proj.bias),
        query_norm=norm(attention, "q_norm"),
        key_norm=norm(attention, "k_norm"),
        before_attention=Norm(module.input_layernorm, from_one),
        after_attention=norm(module, "post_attention_layernorm", has_post_norms),
        before_mlp=Norm(getattr(module, before_mlp), from_one),
        after_mlp=norm(module, "post_feedforward_layernorm"),
        mlp=DenseMLP(module.mlp) if hasattr(module.mlp, "gate_proj") else _experts(module.mlp),
    )


def _experts(module: Any) -> Callable[[Tensor], Tensor]:
    """A mixture of experts as transformers computes it."""
    return lambda x: module(x.unsqueeze(0))[0]


def _parts(decoder: Decoder) -> list[Linear | Norm]:
    """Every piece that keeps something of its own beside the model's parameters."""
    parts: list[Any] = [decoder.final_norm, decoder.head]
    for layer in decoder.layers:
        parts += [layer.qkv, layer.out, layer.before_attention, layer.before_mlp, layer.query_norm, layer.key_norm]
        parts += [layer.after_attention, layer.after_mlp]
        if isinstance(layer.mlp, DenseMLP):
            parts += [layer.mlp.gate_up, layer.mlp.down]
    return [part for part in parts if part is not None]
