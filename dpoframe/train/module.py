"""Preference alignment as a LightningModule.

An optimizer step is a fixed number of pairs, scored in micro-batches. Each micro-batch goes the same way:

    inputs -> scores of policy and reference -> PairScores -> loss -> backward

The step's loss is the mean over its pairs on all ranks, so neither the number of micro-batches nor that of ranks changes
it. A loss that couples pairs is therefore computed over the whole step first, in a pass without gradients.
"""

from __future__ import annotations

from typing import Any, cast

import lightning
from torch import Tensor

from dpoframe.config.sections import TrainerSection
from dpoframe.data.batching import PairBatch, StepBatch
from dpoframe.train import step as arithmetic
from dpoframe.train.hooks import RunHooks
from dpoframe.train.kept import keep_trained, require_trained
from dpoframe.train.memory import MemoryFit
from dpoframe.train.nonfinite import is_finite, stop_or_skip, withhold
from dpoframe.train.rows import metric_row, set_aside
from dpoframe.train.schedule import clip, make_optimizer, make_schedule, scaler_of
from dpoframe.train.scoring import FixedScores, LookAhead, PairScorer
from dpoframe.train.sharding.layout import Layout
from dpoframe.train.sharding.lockstep import Lockstep
from dpoframe.train.step import LOSS, Columns
from dpoframe.train.validation import Validation, take_first_statistics


class AlignmentModule(lightning.LightningModule):
    """Trains `policy` on preference pairs.

    Args:
        scorer: Holds the policy, its reference and the loss, and scores by them.
        settings: The recipe's `trainer` section.
        steps: Optimizer steps of the run, for the schedule.
        hooks: The plugins' part in the run.
    """

    def __init__(self, scorer: PairScorer, settings: TrainerSection, steps: int, hooks: RunHooks) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.strict_loading = False  # checkpoints leave frozen parameters out; `require_trained` checks the others
        self.scorer, self.policy, self.reference, self.loss = scorer, scorer.policy, scorer.reference, scorer.loss
        self.settings, self.steps, self.hooks, self.memory = settings, steps, hooks, MemoryFit()
        self.lockstep, self.layout = Lockstep(), Layout(scorer)
        self.loss_state: dict[str, Tensor] = {}
        self.progress: dict[str, float] = {"epoch": 0.0, "tokens": 0}
        self.validation, self.validation_row = Validation(scorer, hooks), dict[str, Any]()

    def setup(self, stage: str) -> None:
        """Takes on the run's precision before a checkpoint is loaded, which Lightning does after."""
        self.trainer.precision_plugin.convert_module(self)

    def configure_model(self) -> None:
        """Splits policy and reference over the ranks, where the strategy does that."""
        self.layout.split(self.trainer.strategy)

    def configure_optimizers(self) -> Any:
        """The recipe's optimizer and schedule."""
        optimizer = make_optimizer(self.policy.parameters(), self.settings, scaler_of(self.trainer))
        return [optimizer], [make_schedule(optimizer, self.settings, self.steps)]

    def training_step(self, batch: StepBatch, batch_idx: int) -> dict[str, Any]:
        """One optimizer step: every micro-batch backward, then the update. Returns the loss and the step's row."""
        optimizer, schedule = cast(tuple[Any, Any], (self.optimizers(), self.lr_schedulers()))
        batch, (facts, mine) = self.memory.fit(batch, self.backward_step, self.trainer)
        columns = arithmetic.gather(mine, batch.pairs, self.trainer.strategy)
        scores = arithmetic.to_scores(columns, facts)
        norm = clip(self.trainer, optimizer, self.settings.gradient_clip_val)
        row = metric_row(self.loss, self.hooks, "train", batch.step, columns, scores, {"grad_norm": norm})
        if is_finite(row, self.trainer):
            self.loss_state = {name: value.detach() for name, value in self.loss.update(self.loss_state, scores).items()}
        else:
            stop_or_skip(self.settings, batch, mine, self.trainer.strategy)
            withhold(optimizer, self.trainer)
            row["skipped"] = True
        watched = set_aside(row)
        self.progress = {"epoch": batch.epoch, "tokens": self.progress["tokens"] + watched["units"]}
        row |= self.progress | {"lr": optimizer.param_groups[0]["lr"]}
        optimizer.step()
        schedule.step()
        self.reference.after_step(self.policy)
        return {"loss": columns[LOSS].mean(), "row": row, "watched": watched}

    def backward_step(self, batch: StepBatch) -> tuple[dict[str, Tensor], Columns]:
        """Scores every micro-batch and forms the gradient; the step's facts, and what is known of this rank's pairs."""
        cast(Any, self.optimizers()).zero_grad()
        batch = self.lockstep.filled(batch, self.trainer.strategy)
        facts = self.scorer.facts(batch, self.loss_state)
        ahead = self.scorer.look_ahead(batch, facts, self.trainer.strategy, self.memory.exchange)
        parts = [self.backward_pairs(batch, number, facts, ahead) for number in range(len(batch.own))]
        for number in range(len(batch.own), len(batch.micro)):
            with arithmetic.synchronised(self.trainer.strategy, number + 1 == len(batch.micro)):
                self.keep_step(batch.micro[number], facts, ahead.fixed[number] if ahead else None)
        return facts, arithmetic.join(parts)

    def backward_pairs(self, batch: StepBatch, number: int, facts: dict[str, Tensor], ahead: LookAhead | None) -> Columns:
        """Scores one micro-batch and adds its share of the step's gradient; ranks exchange gradients after the last."""
        pairs = batch.micro[number]
        if ahead is None:
            scores = self.scorer.score(pairs, self.scorer.fixed(pairs), facts)
            losses = self.loss(scores)
            total = (losses * pairs.weight).sum() / batch.pairs
        else:
            gradients, losses = ahead.gradients[number], ahead.losses[number]
            scores = self.scorer.score(pairs, ahead.fixed[number], facts, arithmetic.hint_from_gradients(gradients))
            total = arithmetic.linear_in_scores(scores, gradients)
        terms = self.hooks.loss_terms(scores, "train", batch.step)
        total = total + sum(terms.values()) * (len(pairs.ids) / batch.pairs)
        whole = total * self.trainer.world_size  # ranks average gradients, the step's loss is a sum
        self.memory.backward(lambda: self.manual_backward(whole), batch, number, self.trainer.strategy)
        return arithmetic.to_columns(scores, pairs, losses, terms)

    def keep_step(self, pairs: PairBatch, facts: dict[str, Tensor], fixed: FixedScores | None) -> None:
        """Scores pairs that count for nothing, with a backward: other ranks have one more to score."""
        scores = self.scorer.score(pairs, self.scorer.fixed(pairs) if fixed is None else fixed, facts)
        self.manual_backward(0 * (scores.policy_chosen + scores.policy_rejected).sum())

    def on_validation_start(self) -> None:
        """Puts what a checkpoint would hold in place of what this rank has gathered on its own."""
        take_first_statistics(self.policy, self.trainer.strategy)

    def validation_step(self, batch: StepBatch, batch_idx: int) -> None:
        """Scores a batch of validation pairs."""
        strategy = self.trainer.strategy
        self.validation.take(self.lockstep.filled(batch, strategy), self.global_step, self.loss_state, strategy)

    def on_validation_epoch_end(self) -> None:
        """Makes the validation row."""
        self.validation_row = row = self.validation.conclude(self.global_step, self.loss_state, self.progress)
        self.log_dict({f"validation/{name}": row[name] for name in ("loss", "rewards/accuracies")}, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leaves frozen parameters out; keeps what the loss remembers and the count of tokens."""
        checkpoint["state_dict"] = keep_trained(self, checkpoint["state_dict"])
        checkpoint |= {"loss_state": self.loss_state, "progress": self.progress}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes it all back, after a check that it belongs to this model."""
        require_trained(self, checkpoint["state_dict"])
        device, self.progress = self.trainer.strategy.root_device, checkpoint["progress"]  # the module is not there yet
        self.loss_state = {name: value.to(device) for name, value in checkpoint["loss_state"].items()}
