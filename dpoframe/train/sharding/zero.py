"""Lightning's strategy of DeepSpeed (ZeRO), with the steps and the checkpoints of this house."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.plugins.precision import DeepSpeedPrecision, MixedPrecision, Precision
from lightning.pytorch.strategies import DeepSpeedStrategy, Strategy
from lightning.pytorch.strategies.ddp import DDPStrategy
from torch import Tensor, nn
from typing_extensions import override

from dpoframe.errors import ConfigError, MachineError
from dpoframe.train.kept import kept_names
from dpoframe.train.sharding.root import ROOT, Root
from dpoframe.train.sharding.zero_state import ZeroState, gathered_zero, put
from dpoframe.train.together import raise_together

BUCKET = 50_000_000
"""Elements that are exchanged at a time."""


class ZeroStrategy(DeepSpeedStrategy):
    """ZeRO over all ranks: optimizer state (stage 1), gradients (2) and parameters (3) lie on one rank each.

    A model is asked for scores through the engine, one call a micro-batch, not one a step, because the engine counts backward
    passes by its forwards. Checkpoints are those of whole copies, written by the first rank: any number of ranks and any
    strategy goes on from them.

    Args:
        stage: 1, 2 or 3.
        clip: Largest norm of the gradient; 0 for no limit. The engine clips in the update.
    """

    def __init__(self, stage: int, clip: float) -> None:
        self.stage, self.withheld = stage, False
        self.splits_itself = True
        self.splits_model = stage == 3
        self.exchanges_always = stage > 1
        zero = {
            "stage": stage,
            "reduce_bucket_size": BUCKET,
            "allgather_bucket_size": BUCKET,
            # A small parameter is split like all others, so that a part on this rank is never out of date beside a whole.
            **({"stage3_param_persistence_threshold": 0} if stage == 3 else {}),
        }
        made = {"zero_optimization": zero, "zero_allow_untested_optimizer": True, "gradient_clipping": clip}
        super().__init__(config={**made, "train_micro_batch_size_per_gpu": 1})

    @override
    def setup_environment(self) -> None:
        if isinstance(self.precision_plugin, MixedPrecision):
            self.precision_plugin.device = self.root_device.type
        if not isinstance(self.accelerator, CPUAccelerator):
            super().setup_environment()
            return
        from deepspeed.accelerator import get_accelerator

        if get_accelerator().device_name() != "cpu":
            raise MachineError(
                f"trainer.accelerator is cpu, and DeepSpeed has chosen {get_accelerator().device_name()!r}. Set DS_ACCELERATOR=cpu "
                "in the environment."
            )
        super(DeepSpeedStrategy, self).setup_environment()

    @override
    def _format_config(self) -> None:
        """Nothing is missing in it; and of bf16 DeepSpeed would make weights without float32 ones beside them."""

    @override
    def setup_distributed(self) -> None:
        if not isinstance(self.accelerator, CPUAccelerator):
            super().setup_distributed()
            return
        self.set_world_ranks()
        self._init_deepspeed_distributed()

    @contextlib.contextmanager
    @override
    def model_sharded_context(self) -> Iterator[None]:
        yield  # the models are there before, and are split when the engine is made

    @override
    def _setup_model_and_optimizer(self, model: nn.Module, optimizer: Any, lr_scheduler: Any = None) -> tuple[Any, Any]:
        import deepspeed

        module: Any = self.lightning_module
        models = module.scorer.models
        require_float32(models)
        trained = [list(group["params"]) for group in optimizer.param_groups]
        for group in optimizer.param_groups:  # from here on they are flat
            group["matrices"] = group["params"][0].ndim >= 2
        held = Models(models)
        if self.stage == 3:  # one parameter after the other, so that no device has to hold the whole
            deepspeed.zero.Init(module=held, config_dict_or_path=self.config)
        DDPStrategy.model_to_device(self)
        own = {"optimizer": optimizer, "lr_scheduler": lr_scheduler, "config": self.config}
        engine, made, _, _ = deepspeed.initialize(model=held, dist_init_required=False, **own)
        for number, one in enumerate(models):
            one.__dict__[ROOT] = Door(engine, number)
        self.state = ZeroState(made, trained, self.stage, self.global_rank)
        return engine, made

    @override
    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        module: Any = self.lightning_module
        with self.precision_plugin.train_step_context():
            return module.training_step(*args, **kwargs)

    @override
    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        module: Any = self.lightning_module
        with self.precision_plugin.val_step_context():
            return module.validation_step(*args, **kwargs)

    @contextlib.contextmanager
    @override
    def block_backward_sync(self) -> Iterator[None]:
        self.deepspeed_engine.set_gradient_accumulation_boundary(False)
        yield
        self.deepspeed_engine.set_gradient_accumulation_boundary(True)

    def gradient_norm(self) -> Tensor:
        """The norm of the step's gradient before clipping, 0-dim; infinite where it is not finite. All ranks call it."""
        return self.state.norm()

    def withhold(self) -> None:
        """Makes the next update change nothing, and forgets the gradient."""
        self.withheld = True
        self.state.forget_gradient()

    @override
    def optimizer_step(self, optimizer: Any, closure: Any, model: Any = None, **kwargs: Any) -> Any:
        if self.withheld:
            self.withheld = False
            return closure()
        return super().optimizer_step(optimizer, closure, model, **kwargs)

    @property
    @override
    def lightning_restore_optimizer(self) -> bool:
        return True

    @override
    @torch.no_grad()
    def lightning_module_state_dict(self) -> dict[str, Any]:
        module: Any = self.lightning_module
        found, names = {}, kept_names(module)
        self.state.part_all()
        for name, value in module.state_dict(keep_vars=True).items():
            if name in names:
                whole = gathered_zero(value)  # every rank has a part in it
                found[name] = whole.to("cpu", copy=True) if self.is_global_zero else None
        return found

    @override
    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        return self.state.optimizer_state(keep=self.is_global_zero)

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        own: Exception | None = None
        try:
            Strategy.save_checkpoint(self, checkpoint, filepath, storage_options)
        except Exception as error:  # told to the other ranks first, which would wait in the next step
            own = error
        raise_together(own, self)

    @override
    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        return self.checkpoint_io.load_checkpoint(Path(self.broadcast(checkpoint_path)), weights_only=True)

    @override
    @torch.no_grad()
    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        assert self.lightning_module is not None
        state = self.lightning_module.state_dict(keep_vars=True)
        self.state.part_all()
        for name, value in checkpoint["state_dict"].items():
            put(state[name], value, self.global_rank)

    @override
    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        self.state.load(checkpoint["optimizer_states"][0])


def require_float32(models: list[nn.Module]) -> None:
    """Raises `ConfigError` where a weight is no float32 number: DeepSpeed would keep another copy of it, which no file has."""
    for model in models:
        for name, value in model.named_parameters():
            if value.dtype != torch.float32:
                raise ConfigError(
                    f"trainer.strategy deepspeed takes weights in float32, and {name} is {value.dtype}. Have the modality load "
                    "them in float32 (text: modality.dtype: float32, no load_in_4bit; trainer.precision: bf16-mixed computes in "
                    "bfloat16), or take trainer.strategy: fsdp or ddp."
                )


class Models(nn.Module):
    """What the engine holds: the policy and, where there is one, the reference's model."""

    def __init__(self, models: list[nn.Module]) -> None:
        super().__init__()
        self.roots = nn.ModuleList([Root(model) for model in models])

    def forward(self, number: int, run: Any) -> Any:
        """A call of one of them."""
        return self.roots[number](run)


class Door:
    """The way to one of the engine's models."""

    def __init__(self, engine: Any, number: int) -> None:
        self.engine, self.number = engine, number

    def __call__(self, run: Any) -> Any:
        """Scores. The engine ends an autocast that it was not told of, so that it begins inside."""
        kind = self.engine.device.type
        if not torch.is_autocast_enabled(kind):
            return self.engine(self.number, run)
        shorter = torch.get_autocast_dtype(kind)

        def inside() -> Any:
            with torch.autocast(kind, dtype=shorter, cache_enabled=False):
                return run()

        with torch.autocast(kind, enabled=False):
            return self.engine(self.number, inside)


class ZeroPrecision(Precision):
    """32-true, with weights as they were loaded."""

    backward = DeepSpeedPrecision.backward
    optimizer_step = DeepSpeedPrecision.optimizer_step
    clip_gradients = DeepSpeedPrecision.clip_gradients


class ZeroMixedPrecision(MixedPrecision):
    """bf16-mixed as under the other strategies: weights in float32, products in bfloat16."""

    def __init__(self) -> None:
        super().__init__("bf16-mixed", "cuda")

    backward = DeepSpeedPrecision.backward  # type: ignore[assignment]
    optimizer_step = DeepSpeedPrecision.optimizer_step
    clip_gradients = DeepSpeedPrecision.clip_gradients
