"""PolicyEngine: the policy's weights, their gradients and their optimizer, on accelerate and DeepSpeed.

Every method is collective: all ranks call it, in the same order, with equally many micro-batches.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DeepSpeedPlugin, InitProcessGroupKwargs
from torch import Tensor, nn
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from rl import distributed
from rl.algorithms import Algorithm, ControlsEntropy, EntropyControl, LossInputs, NeedsEntropy, ReportsTokens
from rl.balance import Balance
from rl.batch import MicroBatch, padding_fraction
from rl.config import MoEConfig, OptimizerConfig
from rl.kl import k3
from rl.losses import clipped_high, clipped_low, importance_ratio
from rl.metrics import Tally
from rl.policy import Policy, TokenScores, is_packed, named_tensors, places, probe_logprobs, unwrapped

ZERO_STAGE = {"ddp": 0, "zero1": 1, "zero2": 2, "zero3": 3, "zero3_offload": 3}


class PolicyEngine:
    """Trains a policy. The model comes in the dtype it trains in: float32 for ddp, else the recipe's."""

    def __init__(
        self,
        model: nn.Module,
        *,
        engine: str,
        optimizer: OptimizerConfig,
        steps: int,
        temperature: float = 1.0,
        reference: nn.Module | None = None,
        autocast: bool = False,
        moe: MoEConfig | None = None,
    ) -> None:
        """Collective. `steps` is the length of the whole run, for the schedule; reference is the frozen model that
        an algorithm's KL compares with, None for a LoRA model (its own base is the reference) or without a KL."""
        self.moe = moe or MoEConfig()
        self.name, self.settings, self.steps, self.step = engine, optimizer, steps, 0
        self.autocast = autocast
        self.entropy_control: EntropyControl | None = None  # of an algorithm that has one, from its first update on
        self.model = model
        self.accelerator = _accelerator(engine, model, optimizer)
        self.device = self.accelerator.device
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        adamw = torch.optim.AdamW(
            trained, lr=optimizer.lr, betas=(optimizer.betas[0], optimizer.betas[1]), eps=optimizer.eps,
            weight_decay=optimizer.weight_decay, fused=True,
        )  # fmt: skip
        policy = Policy(model, temperature).train()
        self.routers = policy.routers
        self.policy, self.optimizer = self.accelerator.prepare(policy, adamw)
        self.reference = None if reference is None else self._frozen(Policy(reference, temperature).eval())
        self._reference_model, self._reference_moved = reference, False

    @property
    def uses_deepspeed(self) -> bool:
        return ZERO_STAGE[self.name] > 0

    @property
    def dtype(self) -> str:
        """What its matrix products are computed in."""
        is_half = self.autocast or next(self.model.parameters()).dtype == torch.bfloat16
        return "bfloat16" if is_half else "float32"

    @property
    def shares_prompts(self) -> bool:
        """Whether micro-batches may hold a prompt once for several trajectories."""
        return is_packed(self.model)

    def _frozen(self, reference: Policy) -> nn.Module:
        reference.requires_grad_(False)
        if ZERO_STAGE[self.name] < 3:
            return reference.to(self.device)
        import deepspeed

        frozen, *_ = deepspeed.initialize(model=reference, config=_deepspeed_config("zero3", self.settings, reference))
        return frozen

    # ------------------------------------------------------------------ log-probabilities and the update

    @torch.no_grad()
    def scores(self, micro_batches: Sequence[MicroBatch]) -> list[TokenScores]:
        """Log-probabilities and entropies under the current weights, of each micro-batch, and the experts used."""
        found = []
        for batch in micro_batches:
            scores = self._scores(self.policy, batch.to(self.device))
            experts = self.routers.routes().experts.to(torch.int16) if self.routers else None
            found.append(replace(scores, experts=experts))
        return found

    def logprobs(self, micro_batches: Sequence[MicroBatch]) -> list[Tensor]:
        """Under the current weights; per micro-batch [T] float32, nats, 0 outside the loss mask."""
        return [scores.logprobs for scores in self.scores(micro_batches)]

    @torch.no_grad()
    def reference_logprobs(self, micro_batches: Sequence[MicroBatch]) -> list[Tensor]:
        """Under the frozen reference, or under the base model with the LoRA adapters switched off. Its routers choose
        for themselves."""
        micro_batches = [replace(batch, experts=None) for batch in micro_batches]
        if self.reference is not None:
            return [self._scores(self.reference, batch.to(self.device)).logprobs for batch in micro_batches]
        disable_adapter: Any = getattr(self.model, "disable_adapter", None)
        if disable_adapter is None:
            raise ValueError("the algorithm uses a reference model (algorithm.beta > 0), but none was loaded")
        with disable_adapter():
            return self.logprobs(micro_batches)

    @torch.no_grad()
    def refresh_reference(self, decay: float) -> None:
        """reference <- decay x reference + (1 - decay) x policy. Nothing where there is no reference model."""
        if self.reference is None:
            return
        for parameter, tensor in self._reference_and(self.weights()):
            parameter.lerp_(tensor.to(parameter), 1 - decay)
        self._reference_moved = True

    def _reference_and(self, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Each tensor of the reference, whole and to be written to, with the tensor of that name."""
        assert self._reference_model is not None
        own = {plain_name(name): tensor for name, tensor in named_tensors(self._reference_model)}
        for name, tensor in tensors:
            with self._gathered([own[name]], modifier_rank=0):
                yield own[name].data, tensor

    @torch.no_grad()
    def probe(self, token_ids: Sequence[int]) -> list[float]:
        """Under the current weights, see rl/policy.py:probe_logprobs. Equal on all ranks."""
        with self._autocast():
            return probe_logprobs(self.policy, token_ids, self.device)

    def update(self, micro_batches: Sequence[MicroBatch], algorithm: Algorithm, *, is_scored: bool = False) -> Tally:
        """One optimizer step on all micro-batches. Gives this rank's share of the metrics.

        is_scored: a pass before has given them old_logprobs, and ref_logprobs if they are used. Without it the
        log-probabilities before the update are those of its own pass, and the reference is run here.
        """
        references: Sequence[Tensor | None] = [None] * len(micro_batches)
        if is_scored:
            references = [batch.to(self.device).ref_logprobs for batch in micro_batches]
        elif algorithm.uses_reference:
            references = self.reference_logprobs(micro_batches)
        tally = Tally()
        of_update = self._under_control(algorithm)
        balance = self._balance(micro_batches) if self.routers else None
        self._set_lr(self.settings.lr_at(self.step, self.steps))
        total_loss = 0.0
        for i, batch in enumerate(micro_batches):
            is_last = i == len(micro_batches) - 1
            with self._accumulating(is_last):
                batch = batch.to(self.device)
                loss = self._loss(replace(batch, ref_logprobs=references[i]), of_update, tally)
                self._backward(loss if balance is None else loss + balance.penalty(batch, tally), is_last)
            total_loss += loss.item()
        _refuse_non_finite(total_loss, "loss", self.step)
        grad_norm = self._optimizer_step()
        self._move_control(algorithm, tally)
        self.step += 1
        if balance is not None:
            balance.finish(tally)
        tally.add("policy/loss", total_loss)
        if isinstance(of_update, ControlsEntropy) and _needs_entropy(algorithm):
            tally.add("policy/entropy_coef", of_update.entropy_coef)
        tally.add("optim/grad_norm", grad_norm)
        tally.add("optim/lr", self.settings.lr_at(self.step - 1, self.steps))
        tally.add("update/micro_batches", len(micro_batches))
        padded = sum(places(self.model, batch) for batch in micro_batches)
        tally.add("update/padding_fraction", padding_fraction(padded, micro_batches))
        return tally

    def _under_control(self, algorithm: Algorithm) -> Algorithm:
        """What this update minimises: the algorithm, its entropy bonus with the weight of now."""
        if not (isinstance(algorithm, ControlsEntropy) and algorithm.controls_entropy):
            return algorithm
        if self.entropy_control is None:
            self.entropy_control = EntropyControl(algorithm.entropy_coef)
        return algorithm.under(self.entropy_control)

    def _move_control(self, algorithm: Algorithm, tally: Tally) -> None:
        """Collective: by the entropy of all ranks' tokens. A batch without a token leaves it where it is."""
        if isinstance(algorithm, ControlsEntropy) and self.entropy_control is not None:
            entropy = tally.reduce(distributed.gather)["policy/entropy"]
            if not math.isnan(entropy):
                self.entropy_control = algorithm.next_control(self.entropy_control, entropy)

    @torch.no_grad()
    def _balance(self, micro_batches: Sequence[MicroBatch]) -> Balance:
        """Collective: the account of this update, with a pass over the batch first where a loss needs its shares."""
        balance = Balance(self.routers, self.moe, micro_batches, distributed.gather)
        if balance.needs_shares:
            for batch in micro_batches:
                batch = batch.to(self.device)
                self._scores(self.policy, batch)
                balance.count(batch)
            balance.all_counted()
        return balance

    def _scores(self, policy: nn.Module, batch: MicroBatch) -> TokenScores:
        with self._autocast():
            logprobs, entropy, _ = policy(batch)
        return TokenScores(logprobs, entropy)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast)

    def _loss(self, batch: MicroBatch, algorithm: Algorithm, tally: Tally) -> Tensor:
        def loss_of(logprobs: Tensor, index: Tensor, entropy: Tensor) -> Tensor:
            inputs = _loss_inputs(batch, logprobs, index, entropy)
            return (batch.loss_weights[index] * algorithm.token_loss(inputs)).sum()

        with self._autocast():
            logprobs, entropy, loss = self.policy(batch, loss_of, entropy_gradient=_needs_entropy(algorithm))
        entropy = entropy.detach()
        everything = torch.arange(len(logprobs), device=logprobs.device)
        inputs = _loss_inputs(batch, logprobs.detach(), everything, entropy)
        _add_token_metrics(tally, inputs, entropy, batch.loss_weights > 0, algorithm)
        return loss

    def _accumulating(self, is_last: bool) -> contextlib.AbstractContextManager[Any]:
        if self.uses_deepspeed or is_last:
            return contextlib.nullcontext()
        return self.accelerator.no_sync(self.policy)

    def _backward(self, loss: Tensor, is_last: bool) -> None:
        # Both DDP and DeepSpeed divide gradients by the number of ranks; our weights already sum to 1 over all.
        loss = loss * distributed.world_size()
        if self.uses_deepspeed:
            self.policy.set_gradient_accumulation_boundary(is_last)
            self.policy.backward(loss)
            if not is_last:
                self.policy.step()  # counts the micro-batch; the weights move at the boundary only
        else:
            self.accelerator.backward(loss)

    def _optimizer_step(self) -> float:
        if self.uses_deepspeed:
            self.policy.step()
            grad_norm = float(self.policy.get_global_grad_norm())
            if not math.isfinite(grad_norm):  # the same number on every rank, and known only after the step
                raise FloatingPointError(
                    f"the gradient norm of update {self.step} is {grad_norm} and the weights are lost; resume=auto "
                    f"goes on from the last checkpoint. Lower optimizer.lr, or set model.dtype=float32"
                )
        else:
            grad_norm = float(self.accelerator.clip_grad_norm_(self.policy.parameters(), self.settings.max_grad_norm))
            _refuse_non_finite(grad_norm, "gradient norm", self.step)
            self.optimizer.step()
            self.optimizer.zero_grad()
        return grad_norm

    def _set_lr(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    # ------------------------------------------------------------------ weights out, state in and out

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Full tensors under the names of the plain Hugging Face model, LoRA merged; gathered one at a time."""
        adapters = _lora_layers(self.model)
        for name, parameter in named_tensors(self.model):
            plain = plain_name(name)
            if plain is None:
                continue
            layer = adapters.get(name.removesuffix(".base_layer.weight"))
            with self._gathered([parameter, *(layer.parameters() if layer is not None else ())]):
                tensor = parameter.detach()
                if layer is not None:
                    tensor = tensor + layer.get_delta_weight("default").detach().to(tensor.dtype)
                yield plain, tensor

    def _gathered(
        self, parameters: Sequence[Tensor], modifier_rank: int | None = None
    ) -> contextlib.AbstractContextManager[Any]:
        """modifier_rank: whose changes inside are those of all ranks."""
        if ZERO_STAGE[self.name] < 3:
            return contextlib.nullcontext()
        import deepspeed

        return deepspeed.zero.GatheredParameters(parameters, modifier_rank=modifier_rank)

    def save_model(self, directory: Path, tokenizer: Any) -> None:
        """Collective: a plain Hugging Face directory, written by rank 0 after the last collective of this call."""
        is_writer = distributed.rank() == 0
        state = {}
        for name, tensor in self.weights():
            if is_writer:
                state[name] = tensor.to("cpu", copy=True)
        if is_writer:
            base = unwrapped(self.model)
            base.save_pretrained(directory, state_dict=state)
            tokenizer.save_pretrained(directory)

    def save(self, directory: Path) -> None:
        """Collective: what a bit-identical resume needs, with the same engine and number of ranks."""
        directory.mkdir(parents=True, exist_ok=True)
        if distributed.rank() == 0:
            control = None if self.entropy_control is None else asdict(self.entropy_control)
            own = {"engine": self.name, "step": self.step, "entropy_control": control}
            (directory / "engine.json").write_text(json.dumps(own))
        if self._reference_moved:
            assert self._reference_model is not None
            state = {}
            for name, parameter in named_tensors(self._reference_model):
                with self._gathered([parameter]):
                    state[plain_name(name)] = parameter.detach().to("cpu", copy=True)
            if distributed.rank() == 0:
                torch.save(state, directory / "reference.pt")
        if self.uses_deepspeed:
            self.policy.save_checkpoint(str(directory), tag="state")
        elif distributed.rank() == 0:
            weights = {name: tensor.detach() for name, tensor in named_tensors(self.model) if _may_change(tensor)}
            torch.save({"weights": weights, "optimizer": self.optimizer.state_dict()}, directory / "state.pt")

    def load(self, directory: Path) -> None:
        """Collective: the state that save() wrote. ValueError for the state of another engine."""
        file = directory / "engine.json"
        if not file.is_file():
            raise ValueError(f"{directory} holds no state of an engine: there is no {file.name}")
        saved = json.loads(file.read_text())
        if saved["engine"] != self.name:
            raise ValueError(f"{directory} was saved by engine={saved['engine']} and cannot be loaded by {self.name}")
        if (directory / "reference.pt").is_file() and self.reference is not None:
            known = torch.load(directory / "reference.pt", map_location="cpu", weights_only=True)
            with torch.no_grad():
                for parameter, tensor in self._reference_and(known.items()):
                    parameter.copy_(tensor)
            self._reference_moved = True
        if self.uses_deepspeed:
            path, _ = self.policy.load_checkpoint(str(directory), tag="state")
            assert path is not None
        else:
            state = torch.load(directory / "state.pt", map_location="cpu", weights_only=True)
            with torch.no_grad():
                for name, tensor in named_tensors(self.model):
                    if _may_change(tensor):
                        tensor.copy_(state["weights"][name])
            self.optimizer.load_state_dict(state["optimizer"])
        self.step = saved["step"]
        control = saved.get("entropy_control")
        self.entropy_control = None if control is None else EntropyControl(**control)


def _loss_inputs(batch: MicroBatch, logprobs: Tensor, index: Tensor, entropy: Tensor) -> LossInputs:
    """Of the tokens at these places of the batch."""
    return LossInputs(
        logprobs=logprobs,
        old_logprobs=logprobs.detach() if batch.old_logprobs is None else batch.old_logprobs[index],
        rollout_logprobs=batch.rollout_logprobs[index],
        ref_logprobs=None if batch.ref_logprobs is None else batch.ref_logprobs[index],
        advantages=batch.advantages[index],
        sequence_ids=batch.sequence_ids[index],
        loss_mask=batch.loss_mask[index],
        entropy=entropy,
        selected=None if batch.selected is None else batch.selected[index],
    )


def _needs_entropy(algorithm: Algorithm) -> bool:
    return isinstance(algorithm, NeedsEntropy) and algorithm.needs_entropy


def plain_name(name: str) -> str | None:
    """A parameter's name in the plain model; None for the LoRA adapters' own parameters."""
    if ".lora_" in name:
        return None
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")


def _may_change(tensor: Tensor) -> bool:
    """Whether training moves it: a buffer may be moved by other means than a gradient."""
    return tensor.requires_grad or not isinstance(tensor, nn.Parameter)


def _lora_layers(model: nn.Module) -> dict[str, Any]:
    return {name: module for name, module in model.named_modules() if hasattr(module, "get_delta_weight")}


def _add_token_metrics(
    tally: Tally, inputs: LossInputs, entropy: Tensor, trained: Tensor, algorithm: Algorithm
) -> None:
    """Means over the trained tokens; nats per token, or fractions. Without any the names are known, the values NaN."""
    count = int(trained.sum())
    logprobs = inputs.logprobs.detach()
    ratio = importance_ratio(logprobs, inputs.old_logprobs)
    values = {
        "policy/entropy": entropy,
        "policy/clip_low_fraction": clipped_low(ratio, inputs.advantages, algorithm.clip_low),
        "policy/clip_high_fraction": clipped_high(ratio, inputs.advantages, algorithm.clip_high),
        "mismatch/kl_rollout": k3(inputs.rollout_logprobs, inputs.old_logprobs),
    }
    if isinstance(algorithm, ReportsTokens):
        values |= algorithm.token_metrics(inputs)
    if inputs.ref_logprobs is not None:
        values["policy/kl_ref"] = k3(logprobs, inputs.ref_logprobs)
    for name, value in values.items():
        tally.add(name, [float(value[trained].double().mean())] if count else [], weight=count)


def _refuse_non_finite(value: float, what: str, step: int) -> None:
    """Collective: stops every rank, before the weights move, where any rank's value is infinite or not a number."""
    error = None
    if not math.isfinite(value):
        error = FloatingPointError(
            f"the {what} of update {step} is {value}; the weights were not changed. Lower optimizer.lr, or set "
            f"model.dtype=float32 to see whether precision is the cause"
        )
    distributed.raise_together(error)


def _accelerator(engine: str, model: nn.Module, optimizer: OptimizerConfig) -> Accelerator:
    distributed.describe_single_process()
    # accelerate keeps one state per process; a cold start and the run after it are two engines.
    AcceleratorState._reset_state(reset_partial_state=True)
    on_cpu = distributed.local_device().type == "cpu"
    if on_cpu:
        keep_freed_memory()
    plugin = None
    if ZERO_STAGE[engine] > 0:
        os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
        plugin = DeepSpeedPlugin(hf_ds_config=_deepspeed_config(engine, optimizer, model))
    else:
        os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)
    # Where it is unset accelerate sets its own number of threads on CPU ranks, and warns.
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    backend = InitProcessGroupKwargs(backend="gloo") if on_cpu and _needs_group(engine) else None
    accelerator = Accelerator(
        cpu=on_cpu and plugin is None,
        deepspeed_plugin=plugin,
        kwargs_handlers=[backend] if backend else None,
    )
    # accelerate tells transformers of ZeRO-3: models loaded from then on, the sampler's too, would come in shards.
    unset_hf_deepspeed_config()
    if accelerator.num_processes != distributed.world_size():
        raise RuntimeError(
            f"accelerate sees {accelerator.num_processes} processes where torchrun started {distributed.world_size()}"
        )
    return accelerator


def keep_freed_memory() -> None:
    """glibc gives large freed tensors back to the system and gets them again, page by page: a sixth of an update."""
    if sys.platform == "linux":
        trim_threshold, mmap_threshold = -1, -3  # numbers of malloc.h
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):  # not in musl
            libc.mallopt(trim_threshold, -1)
            libc.mallopt(mmap_threshold, 2**30)


def _needs_group(engine: str) -> bool:
    return distributed.world_size() > 1 or ZERO_STAGE[engine] > 0


def _deepspeed_config(engine: str, optimizer: OptimizerConfig, model: nn.Module) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": ZERO_STAGE[engine], "overlap_comm": torch.cuda.is_available()}
    if engine == "zero3_offload":
        zero |= {"offload_optimizer": {"device": "cpu"}, "offload_param": {"device": "cpu"}}
    return {
        "train_micro_batch_size_per_gpu": 1,  # an unused formality: batch.tokens_per_micro_batch decides
        "gradient_accumulation_steps": 1,  # set_gradient_accumulation_boundary says when to step
        "gradient_clipping": optimizer.max_grad_norm,
        "zero_optimization": zero,
        "bf16": {"enabled": next(model.parameters()).dtype == torch.bfloat16},
        # In bf16 the gradient would depend on how the batch is cut: over micro-batches and over ranks sum in float32.
        "data_types": {"grad_accum_dtype": "fp32"},
        "communication_data_type": "fp32",
        "zero_force_ds_cpu_optimizer": False,
        "zero_allow_untested_optimizer": True,
    }
