"""Makes what both sides train on: a random pipeline in the shape of Stable Diffusion 1.5, and pairs of real photographs' crops."""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch

WORDS = [f"w{index}" for index in range(500)]


def write_pipeline(folder: Path) -> None:
    """Stable Diffusion 1.5 with a fifth of the UNet's channels and a quarter of the VAE's; fixed random weights, float32.

    The VAE's encoder then costs 1.3 times a forward of the UNet, as it does in the original at 512 pixels.
    """
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(64, 128, 256, 256),
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=192,
        attention_head_dim=8,
    )
    vae = AutoencoderKL(
        block_out_channels=(32, 64, 128, 128),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
    )
    shape = {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 6}
    text = CLIPTextModel(CLIPTextConfig(vocab_size=512, max_position_embeddings=77, bos_token_id=0, eos_token_id=1, **shape))
    vocabulary = {"<s>": 0, "</s>": 1} | {word: 2 + index for index, word in enumerate(WORDS)}
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token="</s>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    plain.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, bos_token="<s>", eos_token="</s>", pad_token="</s>", unk_token="</s>", model_max_length=77
    )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def write_pairs(folder: Path, count: int, side: int) -> None:
    """JPEGs of `side` pixels, cut out of the photographs that scikit-learn brings, and `pairs.jsonl`. No two captions are equal."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    draw = random.Random(0)
    photographs = [Image.fromarray(one) for one in load_sample_images().images]
    (folder / "pictures").mkdir()
    rows = []
    for index in range(count):
        names = []
        for which in ("chosen", "rejected"):
            photograph = draw.choice(photographs)
            left, top = (draw.randrange(limit - side) for limit in photograph.size)
            name = f"pictures/{index}-{which}.jpg"
            photograph.crop((left, top, left + side, top + side)).save(folder / name, quality=95)
            names.append(name)
        caption = " ".join(draw.choices(WORDS, k=draw.randrange(6, 30)))
        rows.append({"id": f"pair-{index}", "prompt": caption, "chosen": names[0], "rejected": names[1]})
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
