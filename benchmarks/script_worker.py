"""One run of the plain loop that public Diffusion-DPO scripts share, on the same pipeline, pairs and draws. Prints one JSON line.

Every step opens the step's pictures, encodes them with the VAE and their captions with the text encoder, and runs the UNet
twice: with the adapters, and without them and without gradients for the reference. Imports nothing of dpoframe.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Meter, gradients
from safetensors.torch import load_file
from torch import Tensor


class Loop:
    """The trainer: all parts of the pipeline stay in memory."""

    def __init__(self, work: Path, settings: dict[str, Any]) -> None:
        from diffusers import DDPMScheduler, StableDiffusionPipeline
        from peft import LoraConfig

        self.work, self.settings = work, settings
        pipeline = StableDiffusionPipeline.from_pretrained(work / "pipeline", safety_checker=None)
        self.vae, self.text, self.tokenizer, self.unet = pipeline.vae, pipeline.text_encoder, pipeline.tokenizer, pipeline.unet
        self.scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
        for part in (self.vae, self.text, self.unet):
            part.requires_grad_(False)
        targets = ["to_q", "to_k", "to_v", "to_out.0"]
        self.unet.add_adapter(LoraConfig(r=settings["rank"], lora_alpha=settings["rank"], target_modules=targets))
        self.unet.load_state_dict(load_file(work / "adapters.safetensors"), strict=False)
        self.trained = [one for one in self.unet.parameters() if one.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=settings["lr"], weight_decay=0.0, fused=True)
        self.draws = load_file(work / "draws.safetensors")

    def pixels(self, names: list[str]) -> Tensor:
        """Pictures (n, 3, side, side) in [-1, 1]."""
        from PIL import Image

        arrays = [np.asarray(Image.open(self.work / name).convert("RGB"), dtype=np.float32) for name in names]
        return torch.stack([torch.from_numpy(array / 127.5 - 1).permute(2, 0, 1) for array in arrays])

    def step(self, first: int, rows: list[dict[str, str]]) -> Tensor:
        """The loss of a step whose first pair has the number `first`; gradients are left in the adapters."""
        count = len(rows)
        drawn = {
            name: torch.stack([self.draws[f"{first + index}.{name}"] for index in range(count)])
            for name in ("time", "noise", "posterior")
        }
        time, noise, posterior = (torch.cat([drawn[name]] * 2) for name in ("time", "noise", "posterior"))
        with torch.no_grad():
            held = self.vae.encode(self.pixels([row["chosen"] for row in rows] + [row["rejected"] for row in rows])).latent_dist
            latents = (held.mean + held.std * posterior) * self.vae.config.scaling_factor
            ids = self.tokenizer(
                [row["prompt"] for row in rows], padding="max_length", truncation=True, max_length=77, return_tensors="pt"
            ).input_ids
            states = self.text(ids)[0].repeat(2, 1, 1)
            noisy = self.scheduler.add_noise(latents, noise, time)
        errors = (self.unet(noisy, time, states).sample - noise).pow(2).mean(dim=(1, 2, 3))
        self.unet.disable_adapters()
        with torch.no_grad():
            before = (self.unet(noisy, time, states).sample - noise).pow(2).mean(dim=(1, 2, 3))
        self.unet.enable_adapters()
        gain = before - errors
        loss = -torch.nn.functional.logsigmoid(self.settings["beta"] / 2 * (gain[:count] - gain[count:])).mean()
        loss.backward()
        return loss.detach()


def main() -> None:
    """Trains and prints the measurements."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    settings = json.loads((options.work / "settings.json").read_text())
    torch.set_num_threads(options.threads)
    rows = [json.loads(line) for line in (options.work / "ordered.jsonl").read_text().splitlines()]
    loop = Loop(options.work, settings)
    meter = Meter()
    for first in range(0, len(rows), settings["batch_size"]):
        loop.optimizer.zero_grad()
        meter.losses.append(float(loop.step(first, rows[first : first + settings["batch_size"]])))
        torch.nn.utils.clip_grad_norm_(loop.trained, 1e5)
        if not meter.ends:
            gradients(
                {name: one for name, one in loop.unet.named_parameters() if one.requires_grad},
                options.work / "script.grads.safetensors",
            )
        loop.optimizer.step()
        meter.end_step()
    sys.stdout.write("\nRESULT " + json.dumps(meter.result()) + "\n")


if __name__ == "__main__":
    main()
