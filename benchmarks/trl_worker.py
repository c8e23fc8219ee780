"""One run of the peer: TRL's DPOTrainer on prepared weights and pairs. Prints one JSON line.

TRL's fastest setting on a CPU: float32, no gradient checkpointing. `--response-only` makes it score response rows only,
which it does by itself on CUDA: its switch for that is forced, its computation is untouched.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from measure import Meter, gradients
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback


class StepMeter(TrainerCallback):
    """Marks the end of each optimizer step, and keeps the first step's gradients."""

    def __init__(self, meter: Meter, keep: Path) -> None:
        self.meter, self.keep = meter, keep

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        """Gradients are complete."""
        if state.global_step == 0:
            gradients(dict(model.named_parameters()), self.keep)

    def on_step_end(self, args, state, control, **kwargs):
        """The optimizer has stepped."""
        self.meter.end_step()

    def on_log(self, args, state, control, logs=None, **kwargs):
        """One row of metrics a step."""
        if logs and "loss" in logs:
            self.meter.losses.append(float(logs["loss"]))


def main() -> None:
    """Trains and prints the measurements."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--response-only", action="store_true")
    parser.add_argument("--cached", action="store_true", help="reference log-probabilities computed before training")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    import trl.trainer.utils
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    if options.response_only:
        trl.trainer.utils._use_triton = lambda device: True

    class Ordered(DPOTrainer):
        def _get_train_sampler(self, *args, **kwargs):
            return SequentialSampler(self.train_dataset)

    settings = json.loads((options.work / "settings.json").read_text())
    rows = [json.loads(line) for line in (options.work / "ordered.jsonl").read_text().splitlines()]
    data = Dataset.from_list([{key: row[key] for key in ("prompt", "chosen", "rejected")} for row in rows])
    model = AutoModelForCausalLM.from_pretrained(options.work / "model", dtype=torch.float32)
    reference = None if options.cached else AutoModelForCausalLM.from_pretrained(options.work / "model", dtype=torch.float32)
    out = options.work / f"trl-{'response-' if options.response_only else ''}{'cached' if options.cached else 'live'}"
    config = DPOConfig(
        output_dir=str(out),
        per_device_train_batch_size=settings["batch_size"],
        max_steps=settings["steps"],
        learning_rate=settings["lr"],
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=1e5,
        beta=0.1,
        max_length=settings["max_length"],
        bf16=False,
        gradient_checkpointing=False,
        precompute_ref_log_probs=options.cached,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=0,
    )
    meter = Meter()
    trainer = Ordered(
        model=model,
        ref_model=reference,
        args=config,
        train_dataset=data,
        processing_class=PreTrainedTokenizerFast.from_pretrained(options.work / "model"),
        callbacks=[StepMeter(meter, options.work / f"{out.name}.grads.safetensors")],
    )
    trainer.train()
    sys.stdout.write("\nRESULT " + json.dumps(meter.result()) + "\n")


if __name__ == "__main__":
    main()
