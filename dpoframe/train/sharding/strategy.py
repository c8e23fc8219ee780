"""Lightning's strategy of split models, with checkpoints of this house."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.tensor import DTensor
from typing_extensions import override

from dpoframe.checkpoint import DurableCheckpointIO
from dpoframe.checkpoint.pieces import Pieces, own_rows, part_of, pieces_only, with_pieces
from dpoframe.train.together import raise_together


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2 over all ranks.

    Each rank writes its part of a checkpoint, and reads what it needs of any: whole ones and those of another number of ranks
    among them.
    """

    splits_model = exchanges_always = True

    @property
    @override
    def lightning_restore_optimizer(self) -> bool:
        return True

    @override
    def setup_environment(self) -> None:
        self._data_parallel_size, self._tensor_parallel_size = self.num_nodes * self.num_processes, 1
        super().setup_environment()

    @property
    def mesh(self) -> Any:
        """The ranks."""
        return self.device_mesh["data_parallel"]

    @override
    def lightning_module_state_dict(self) -> dict[str, Any]:
        assert self.lightning_module is not None
        return self.lightning_module.state_dict()

    @override
    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        plain = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        state: dict[str, Any] = plain.state_dict()
        return state

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        path, ranks = Path(self.broadcast(filepath)), self.world_size
        state = with_pieces(checkpoint) | {"parts": ranks}
        if self.global_rank:
            kept = {name: pieces_only(state[name]) for name in ("state_dict", "optimizer_states")}
            state = {**kept, "global_step": checkpoint["global_step"]}
        own: Exception | None = None
        try:
            self.checkpoint_io.save_checkpoint(state, part_of(path, self.global_rank, ranks))
        except Exception as error:  # told to the other ranks first
            own = error
        raise_together(own, self)  # the others would wait in the next step

    @override
    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        writer = self.checkpoint_io
        assert isinstance(writer, DurableCheckpointIO)
        return writer.load_pieces(Path(self.broadcast(checkpoint_path)))

    @override
    @torch.no_grad()
    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        assert self.lightning_module is not None
        state = self.lightning_module.state_dict(keep_vars=True)
        for name, value in checkpoint["state_dict"].items():
            mine = state[name]
            local = mine.to_local() if isinstance(mine, DTensor) else mine
            local.detach().copy_(_own_part(mine, value))

    @override
    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        restored = []
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [value for group in optimizer.param_groups for value in group["params"]]
            state = {number: _own_state(parameters[number], one) for number, one in saved["state"].items()}
            restored.append({**saved, "state": state})
        super(ModelParallelStrategy, self).load_optimizer_state_dict({"optimizer_states": restored})


def _own_part(mine: Any, saved: Any) -> Any:
    """This rank's rows of a saved tensor, as `mine` holds them."""
    if not isinstance(mine, DTensor):
        return saved.whole() if isinstance(saved, Pieces) else saved
    start, stop = own_rows(mine)
    return saved.rows(start, stop) if isinstance(saved, Pieces) else saved[start:stop]


def _own_state(parameter: Any, saved: Mapping[str, Any]) -> dict[str, Any]:
    """An optimizer's state of a parameter: what has its shape is split as it is."""

    def part(value: Any) -> Any:
        if not isinstance(parameter, DTensor) or getattr(value, "shape", None) != parameter.shape:
            return value.whole() if isinstance(value, Pieces) else value
        local = _own_part(parameter, value).to(parameter.device, copy=True)
        form: dict[str, Any] = {"shape": parameter.shape, "stride": parameter.stride()}
        return DTensor.from_local(local, parameter.device_mesh, parameter.placements, run_check=False, **form)

    return {name: part(value) for name, value in saved.items()}
