"""Looks for what goes wrong silently, and says it once."""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Iterable
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from dpoframe.data.batching import StepBatch
from dpoframe.train.start import DRIFT, EXPECTED, OFF, SLOPE, rounding, score_tolerance

# Three windows of this many steps are compared: shorter ones follow the noise of single batches.
WINDOW = 10
# A fall below the reference is common and harmless while it is small in rewards, or in parts of the score itself. Both must
# be passed: beta makes much of little where scores are denoising errors, and a hundredth of a short answer is nothing.
FALL = 0.1
FALL_OF_SCORE = 0.01


# Optimizers whose updates are about as large as the rate, whatever the gradient's size.
RATE_SIZED = frozenset(("adam", "adamax", "adamw", "nadam", "radam"))


class Watch(Callback):
    """Checks the first step's scores, loss and lengths, and whether the chosen responses keep falling below the reference.

    Args:
        kind: The reference's kind.
        exact: Whether that kind starts out equal to the policy.
        precision: The run's precision.
        per_unit: Whether a loss divides by lengths of the whole step.
    """

    def __init__(self, kind: str, exact: bool, precision: str, per_unit: bool) -> None:
        self.kind, self.exact, self.precision, self.per_unit = kind, exact, precision, per_unit
        self.chosen: deque[float] = deque(maxlen=3 * WINDOW)
        self.parts: deque[float] = deque(maxlen=WINDOW)
        self.told = False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Looks at what an update can change."""
        settings = pl_module.settings
        share = lost_share(pl_module.policy.parameters(), settings.lr) if settings.optimizer in RATE_SIZED else 0.0
        if trainer.is_global_zero and share > 0.5:
            warn(
                f"At a rate of {settings.lr:g} an update is lost in rounding for {share:.0%} of the trained weights of 16 bits: "
                "they stay as they are. Keep them in float32 (modality.dtype: float32), and set trainer.precision: bf16-mixed."
            )

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: StepBatch, batch_idx: int
    ) -> None:
        """Looks at a step."""
        row, watched = outputs["row"], outputs["watched"]
        if row["step"] == 0 and trainer.is_global_zero and "skipped" not in row:
            self._first_step(pl_module, row, watched)
            if self.per_unit:
                _compare_lengths(watched["chosen_length"], batch.chosen_length)
        self.chosen.append(row["rewards/chosen"])
        self.parts.append(watched["chosen_logratio"] / (abs(row["logps/chosen"]) or 1.0))
        if self.kind != "none" and trainer.is_global_zero and not self.told and falling(self.chosen, self.parts):
            self.told = True
            warn(falling_message(self.chosen))

    def state_dict(self) -> dict[str, Any]:
        """What was seen so far, for a resumed run."""
        return {"chosen": list(self.chosen), "parts": list(self.parts), "told": self.told}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from there."""
        self.chosen.extend(state_dict["chosen"])
        self.parts.extend(state_dict["parts"])
        self.told = state_dict["told"]

    def _first_step(self, module: Any, row: dict[str, Any], watched: dict[str, float]) -> None:
        unit, drift = rounding(self.precision, module.policy), watched[DRIFT]
        allowed = score_tolerance(self.kind, unit, row["logps/chosen"], watched["chosen_length"])
        # Twice what the slope allows, for losses that bend; and the rounding of the loss itself.
        loss_allowed = 2 * watched[SLOPE] * allowed + unit * (1 + abs(watched[EXPECTED]))
        if self.exact and not (drift <= allowed and abs(watched[OFF]) <= loss_allowed):
            cause = likely_cause(self.kind, module.policy, module.reference)
            warn(
                f"At the first step policy and reference should be equal, but their scores differ by {drift:.3g} on average "
                f"(rounding explains {allowed:.2g}), margins are {watched['absolute_margin']:.3g} and the loss is "
                f"{watched[EXPECTED] + watched[OFF]:.6g}; of equal scores it is {watched[EXPECTED]:.6g}. Likely cause: {cause}"
            )


def _compare_lengths(scored: float, measured: float) -> None:
    if not math.isclose(scored, measured, rel_tol=1e-4):
        warn(
            "The modality's measure() and score() disagree on the length of responses "
            f"({measured:.6g} against {scored:.6g} on average over the chosen ones of step 0); a loss of this run divides by "
            "the former. Implement measure() so that its `response` is the length that score() returns."
        )


@torch.no_grad()
def lost_share(parameters: Iterable[nn.Parameter], rate: float) -> float:
    """The share of trained weights of 16 bits from which their neighbours are further away than twice `rate`.

    The distance of a weight w to its nearest neighbour is |w| eps / 2 at least; a step of less than half of it is rounded back.
    """
    lost = count = 0
    for value in parameters:
        if value.requires_grad and value.is_floating_point() and value.element_size() == 2:
            held: torch.Tensor = value.to_local() if hasattr(value, "to_local") else value
            lost += int((held.abs() * (torch.finfo(value.dtype).eps / 4) > rate).sum())
            count += held.numel()
    return lost / count if count else 0.0


def warn(message: str) -> None:
    """A warning of the run."""
    warnings.warn(message, RuntimeWarning, stacklevel=4)


def falling(values: deque[float], parts: deque[float]) -> bool:
    """Whether the mean chosen reward fell over three windows in a row, and in the last by more than is harmless.

    Args:
        values: Mean chosen rewards of the last steps.
        parts: The mean chosen log-ratio of each step of the last window, in parts of the policy's mean score.
    """
    if len(values) < 3 * WINDOW or sum(parts) / len(parts) > -FALL_OF_SCORE:
        return False
    seen = list(values)
    first, second, third = (sum(seen[start : start + WINDOW]) / WINDOW for start in range(0, 3 * WINDOW, WINDOW))
    return first > second > third and third < -FALL


def falling_message(values: deque[float]) -> str:
    """The warning's text."""
    mean = sum(list(values)[-WINDOW:]) / WINDOW
    return (
        f"The chosen responses keep getting less likely than under the reference: rewards/chosen is {mean:.2f} on average over the "
        f"last {WINDOW} steps. The margin grows because rejected ones fall faster. Lower trainer.lr, raise the loss's beta, or add "
        "weight on the chosen responses (loss dpop, or sft as a second loss)."
    )


def likely_cause(kind: str, policy: nn.Module, reference: Any) -> str:
    """The first thing to look at, from what the model is made of."""
    dropout = [name for name, part in policy.named_modules() if isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0]
    if dropout and policy.training:
        return f"dropout is active in the policy ({dropout[0]}, p = {policy.get_submodule(dropout[0]).p}); set it to 0."
    if kind == "adapter":
        return "the adapter does not start at zero, so switching it off changes the model; initialise its output to zero."
    if kind == "cached":
        return f"the cached scores were not made by this model; remove the folder {reference.store.folder} and start again."
    norms = [name for name, part in policy.named_modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    if norms:
        return f"{norms[0]} normalises over the batch, so training mode scores otherwise than evaluation mode; freeze it."
    return (
        "score() is not pure: it draws randomness in training mode (label dropout, noise not taken from Example.seed), or the "
        "reference has another dtype than the policy, or other weights."
    )
