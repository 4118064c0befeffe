"""The policy as a function: log-probabilities of the tokens of a micro-batch.

    T  tokens of one packed micro-batch        N  its trajectories, L tokens the longest
    M  tokens with a loss                      H  hidden size        V  vocabulary

[T, V] never exists: logits are made for the M tokens only, a chunk at a time, and made again in the backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from rl import distributed
from rl.attention import PACKED, can_share_prompts, layout, padded_tokens, share_prompts
from rl.batch import MicroBatch, micro_batch, trajectory
from rl.head import FusedHead, LossOf, chunk_tokens, wide_dtype
from rl.norms import use_fused_norms
from rl.routers import Routers

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")
SCALED_LOGITS = ("logits_scaling", "logit_scale", "lm_head_multiplier")  # Granite, Cohere, Falcon-H1


@dataclass(frozen=True, slots=True)
class TokenScores:
    """Of each token under the current policy, [T] float32, nats; 0 outside the loss mask."""

    logprobs: Tensor
    entropy: Tensor  # of the distribution the token was drawn from; carries a gradient only where asked for
    experts: Tensor | None = None  # [T, L, K] int16, those that computed each token; None for a dense model


def check_model_path(path: str) -> None:
    """Refuses a model.path that is neither a Hugging Face directory nor a plausible hub name, before anything loads."""
    directory = Path(path).expanduser()
    if directory.is_dir():
        if not (directory / "config.json").is_file():
            raise ValueError(f"model.path={path} is a directory without a config.json: not a Hugging Face model")
    elif directory.is_absolute() or path.startswith((".", "~")) or path.count("/") != 1:
        raise ValueError(f"model.path={path} does not exist, and is not of the form owner/name of a hub model")
    else:
        _check_hub(path)


def _check_hub(path: str) -> None:
    try:
        AutoConfig.from_pretrained(path)
    except OSError as error:
        raise ValueError(
            f"model.path={path}: config.json is neither in the local cache nor could the hub be reached. "
            f"Download the model where there is a network (`hf download {path} --local-dir DIR`) and set "
            f"model.path=DIR. The hub's own words: {str(error).splitlines()[0]}"
        ) from error


def load_model(path: str, dtype: str, attention: str | None = None) -> PreTrainedModel:
    """A causal LM with its weights in dtype. The path is a directory or a hub name, already checked."""
    config = AutoConfig.from_pretrained(local_or_hub(path))
    is_chosen = attention is not None
    if getattr(config, "attn_logit_softcapping", None):  # Gemma 2
        if attention == "sdpa":
            raise ValueError(f"model.attention=sdpa ignores the soft cap of {path}'s attention: take eager, or null")
        attention = attention or "eager"
    options: dict[str, Any] = {} if attention is None else {"attn_implementation": attention}
    model = AutoModelForCausalLM.from_pretrained(local_or_hub(path), dtype=DTYPES[dtype], **options)
    for name in SCALED_LOGITS:
        if getattr(model.config, name, 1.0) not in (None, 1.0):
            raise ValueError(f"model.path={path}: its logits are scaled by {name}, which log-probabilities here ignore")
    disable_dropout(model)
    model.attention_is_chosen = is_chosen  # type: ignore[assignment]
    return model


def disable_dropout(model: nn.Module) -> None:
    """Dropout would make the update's log-probabilities differ from the sampler's, and a resume from the run."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "dropout", "activation_dropout", "layerdrop"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def compile_layers(model: PreTrainedModel) -> None:
    """Each decoder layer is compiled as it is first called, for any number of tokens. Our attention stays as it is."""
    layers: Any = model.get_decoder().layers
    for layer in layers:
        layer.compile(dynamic=True)


def local_or_hub(path: str) -> str:
    """The directory with ~ expanded where there is one, else the hub name as it is."""
    directory = Path(path).expanduser()
    return str(directory) if directory.is_dir() else path


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """The tokenizer beside a model. It needs an end-of-sequence token; else no completion would ever stop."""
    directory = Path(local_or_hub(path))
    if directory.is_dir() and not any((directory / name).is_file() for name in TOKENIZER_FILES):
        raise ValueError(f"model.path={path} has no tokenizer: none of {', '.join(TOKENIZER_FILES)} is there")
    tokenizer = AutoTokenizer.from_pretrained(local_or_hub(path))
    if tokenizer.eos_token_id is None:
        raise ValueError(f"model.path={path}: the tokenizer has no end-of-sequence token")
    return tokenizer


class Policy(nn.Module):
    """A causal LM whose forward gives token scores: what DeepSpeed and DDP wrap."""

    def __init__(self, model: nn.Module, temperature: float) -> None:
        super().__init__()
        if can_share_prompts(unwrapped(model)):
            share_prompts(unwrapped(model))
            use_fused_norms(unwrapped(model))
        self.model = model
        self.routers = Routers(unwrapped(model))
        self.temperature = temperature if temperature > 0 else 1.0  # greedy sampling reports the model's own logprobs
        head = output_head(model)
        is_plain = type(head) is nn.Linear and getattr(head, "bias", None) is None
        self.fused_head = FusedHead(head.weight) if is_plain else None  # type: ignore[arg-type]

    def forward(
        self,
        batch: MicroBatch,
        loss_of: LossOf | None = None,
        temperature: float | None = None,
        entropy_gradient: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Log-probabilities and entropies [T], and the loss where it is asked for: then it alone carries a gradient.

        loss_of is given the log-probabilities [m] of some tokens with a loss, their places [m] in the batch and their
        entropies [m], these with a gradient where entropy_gradient says that the loss depends on them.
        temperature, without a loss only, takes the place of the policy's own. A plain tuple: ZeRO-3's hooks look no
        deeper. What the routers of a mixture of experts did is left in self.routers.
        """
        if self.routers:
            self.routers.watch(batch.experts, None if is_packed(self.model) else rows_of(batch)[1])
        if loss_of is None or self.fused_head is None:
            scores = token_logprobs(self.model, batch, temperature or self.temperature, entropy_gradient)
            loss = None
            if loss_of is not None:
                chosen = batch.loss_mask.nonzero().squeeze(-1)
                loss = loss_of(scores.logprobs[chosen], chosen, scores.entropy[chosen])
            return scores.logprobs, scores.entropy, loss
        return self._fused(self.fused_head, batch, loss_of, entropy_gradient)

    def _fused(
        self, head: FusedHead, batch: MicroBatch, loss_of: LossOf, entropy_gradient: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        chosen = batch.loss_mask.nonzero().squeeze(-1)
        hidden = hidden_states(self.model, batch)[batch.before[chosen]]
        sizes = batch.sequence_ids[chosen].bincount()
        loss, logprobs, entropy = head(
            hidden, batch.token_ids[chosen], self.temperature, sizes[sizes > 0].tolist(),
            lambda logprobs, index, entropy: loss_of(logprobs, chosen[index], entropy), entropy_gradient,
        )  # fmt: skip
        zeros = logprobs.new_zeros(len(batch.token_ids))
        return zeros.index_put((chosen,), logprobs), zeros.index_put((chosen,), entropy), loss


def probe_logprobs(policy: nn.Module, token_ids: Sequence[int], device: torch.device | str) -> list[float]:
    """Of T tokens at temperature 1: [T - 1] float32, nats. policy: a Policy, or what an engine made of one.

    What a sampler that holds the same weights must give for the same tokens.
    """
    item = trajectory(token_ids[:1], token_ids[1:], [0.0] * (len(token_ids) - 1), 0.0)
    batch = micro_batch([item], [0.0]).to(device)
    logprobs, _, _ = policy(batch, temperature=1.0)
    return logprobs[batch.loss_mask].tolist()


def token_logprobs(
    model: nn.Module, batch: MicroBatch, temperature: float = 1.0, entropy_gradient: bool = False
) -> TokenScores:
    """Log-probability and entropy of each token with a loss; `logprobs[t]` is that of `token_ids[t]`.

        logprobs_t = log softmax(logits_(t-1) / temperature)[token_t]

    The shift by one is here and nowhere else: the hidden state before a token is the one that predicts it.
    """
    hidden = hidden_states(model, batch)
    chosen = batch.loss_mask.nonzero().squeeze(-1)
    head = output_head(model)
    logprobs, entropies = [], []
    parts = list(chosen.split(chunk_tokens(vocabulary_size(model))))
    if hasattr(unwrapped(model).get_output_embeddings().weight, "ds_id"):
        # ZeRO-3 gathers the head anew for each chunk, a collective: ranks with fewer tokens pad with empty chunks.
        parts += [chosen[:0]] * (max(distributed.gather(len(parts))) - len(parts))
    before = batch.before
    for index in parts:
        scores = checkpoint(
            chunk_scores, head, hidden[before[index]], batch.token_ids[index], temperature, entropy_gradient,
            use_reentrant=False,
        )  # fmt: skip
        logprobs.append(scores[0])
        entropies.append(scores[1])
    zeros = logprobs[0].new_zeros(len(batch.token_ids))
    return TokenScores(*(zeros.index_put((chosen,), torch.cat(values)) for values in (logprobs, entropies)))


def chunk_scores(
    head: nn.Module, hidden: Tensor, targets: Tensor, temperature: float, entropy_gradient: bool = False
) -> tuple[Tensor, Tensor]:
    """hidden [m, H], targets [m] -> log-probabilities [m] and entropies [m], float32 (float64 of such logits), nats."""
    logits = head(hidden)
    logits = logits.to(wide_dtype(logits.dtype)) / temperature
    normalizer = logits.logsumexp(dim=-1)
    logprobs = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - normalizer
    with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
        entropy = normalizer - (torch.softmax(logits, dim=-1) * logits).sum(dim=-1)
    return logprobs, entropy


def hidden_states(model: nn.Module, batch: MicroBatch) -> Tensor:
    """[T, H]."""
    decoder = unwrapped(model).get_decoder()
    if is_packed(model):
        ids, positions = batch.token_ids.unsqueeze(0), batch.positions.unsqueeze(0)
        return decoder(ids, position_ids=positions, use_cache=False, layout=layout(batch)).last_hidden_state[0]
    assert (batch.parents < 0).all(), "this model cannot share prompts"
    # Rows are padded on the right, where causal attention never looks, so no mask is needed.
    rows, places_in_rows = rows_of(batch)
    return decoder(rows, use_cache=False).last_hidden_state.flatten(0, 1)[places_in_rows]


def rows_of(batch: MicroBatch) -> tuple[Tensor, Tensor]:
    """Sequences side by side, N rows of the longest one's tokens, and the place [T] of each token in them, flat."""
    lengths = batch.cu_seqlens.diff()
    longest = int(lengths.max())
    rows = torch.zeros((len(lengths), longest), dtype=torch.int64, device=batch.token_ids.device)
    places_in_rows = batch.sequence_ids * longest + batch.positions
    return rows.flatten().index_copy(0, places_in_rows, batch.token_ids).view_as(rows), places_in_rows


def places(model: nn.Module, batch: MicroBatch) -> int:
    """Tokens and padding of a pass: in attention where the model is packed (nothing else is padded there)."""
    return padded_tokens(batch) if is_packed(model) else max(batch.lengths) * len(batch.lengths)


def is_packed(model: nn.Module) -> bool:
    """Whether the model attends by rl/attention.py, which packed and shared segments need."""
    return bool(unwrapped(model).config._attn_implementation == PACKED)


def unwrapped(model: nn.Module) -> PreTrainedModel:
    """The transformers model inside a peft wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[return-value,operator]


def named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """All that a saved model is made of: its parameters, and buffers that are no function of its config.

    DeepSeek-V3's routers have one of these, e_score_correction_bias.
    """
    yield from model.named_parameters()
    for prefix, module in model.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            if name not in module._non_persistent_buffers_set:
                yield f"{prefix}.{name}" if prefix else name, buffer


def output_head(model: nn.Module) -> nn.Module:
    """Hidden states to logits, with the soft cap of the Gemma family where the model has one."""
    base = unwrapped(model)
    head = base.get_output_embeddings()
    cap = getattr(base.config, "final_logit_softcapping", None)
    return head if cap is None else SoftCapped(head, cap)


class SoftCapped(nn.Module):
    """logits = cap * tanh(logits / cap); Gemma 2, arXiv:2408.00118, section 2."""

    def __init__(self, head: nn.Module, cap: float) -> None:
        super().__init__()
        self.head, self.cap = head, cap

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.tanh(self.head(hidden) / self.cap) * self.cap


def vocabulary_size(model: nn.Module) -> int:
    return int(unwrapped(model).get_output_embeddings().weight.shape[0])
