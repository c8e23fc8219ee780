"""Pipelines of every family, built here from configurations with random weights, and small pictures to train them on."""

from __future__ import annotations

import gc
import io
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dpoframe import Example, Media, PreferencePair

TOKENS = 16
"""Length to which prompts are padded."""


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Encodings are kept in a folder of the tests' own, never in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPOFRAME_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def _letters() -> list[str]:
    """The characters that stand for the 256 bytes in byte-level tokenizers."""
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())


def clip_tokenizer() -> Any:
    """CLIP's tokenizer with the bytes alone for a vocabulary: every text has tokens."""
    from transformers import CLIPTokenizer

    words = [*_letters(), *(f"{letter}</w>" for letter in _letters()), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: number for number, word in enumerate(words)}, merges=[], model_max_length=TOKENS)


def clip_text(projection: bool = False, width: int = 16) -> Any:
    """A text encoder of CLIP's kind of two layers; with a projection it gives the pooled embedding that SDXL reads."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=514,
        hidden_size=width,
        intermediate_size=24,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


def vae(channels: int = 4, **config: Any) -> Any:
    """A VAE that halves the sides; its posterior is narrow, and its latents have about unit variance once scaled."""
    import torch
    from diffusers import AutoencoderKL

    made = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=16,
        **config,
    )
    with torch.no_grad():
        # As in trained ones: nearly all of a latent is the picture's. Random weights would give a deviation of 1.
        last = made.quant_conv if made.quant_conv is not None else made.encoder.conv_out
        last.weight[channels:] = 0
        last.bias[channels:] = -8.0
    return made.eval()


def unet(**config: Any) -> Any:
    """A UNet of two blocks, the lower one with attention to the prompt."""
    from diffusers import UNet2DConditionModel

    common = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "cross_attention_dim": 16,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
    }
    return UNet2DConditionModel(**common | config)


def scheduler(**config: Any) -> Any:
    """Stable Diffusion's noise schedule."""
    from diffusers import DDIMScheduler

    common = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False, "steps_offset": 1}
    return DDIMScheduler(**common | config)


def _stable_diffusion(prediction: str = "epsilon", **config: Any) -> Any:
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline(
        vae=vae(scaling_factor=0.7),
        text_encoder=clip_text(),
        tokenizer=clip_tokenizer(),
        unet=unet(**config),
        scheduler=scheduler(prediction_type=prediction),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _stable_diffusion_xl() -> Any:
    from diffusers import StableDiffusionXLPipeline

    made = unet(
        cross_attention_dim=16 + 24,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 24,
        transformer_layers_per_block=1,
        use_linear_projection=True,
    )
    return StableDiffusionXLPipeline(
        vae=vae(scaling_factor=0.5, force_upcast=True),
        text_encoder=clip_text(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip_text(projection=True, width=24),
        tokenizer_2=clip_tokenizer(),
        unet=made,
        scheduler=scheduler(),
        add_watermarker=False,
    )


def t5(width: int) -> tuple[Any, Any]:
    """A T5 encoder of one layer, and its tokenizer with letters for a vocabulary."""
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    pieces = ["<pad>", "</s>", "<unk>", "\u2581", *"abcdefghijklmnopqrstuvwxyz0123456789"]
    tokenizer = T5Tokenizer(vocab=[(piece, -float(number > 3)) for number, piece in enumerate(pieces)], extra_ids=0)
    config = T5Config(vocab_size=len(pieces), d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return T5EncoderModel(config), tokenizer


def _stable_diffusion_3(**config: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    encoder, tokenizer = t5(40)
    common = {
        "sample_size": 8,
        "patch_size": 2,
        "in_channels": 4,
        "out_channels": 4,
        "num_layers": 2,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "joint_attention_dim": 40,
        "caption_projection_dim": 16,
        "pooled_projection_dim": 16 + 24,
        "pos_embed_max_size": 16,
    }
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(**common | config),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(scaling_factor=0.7, shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=clip_text(projection=True),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip_text(projection=True, width=24),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=encoder,
        tokenizer_3=tokenizer,
    )


def _flux(guidance: bool = True) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    encoder, tokenizer = t5(24)
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=24,
        pooled_projection_dim=16,
        guidance_embeds=guidance,
        axes_dims_rope=(4, 6, 6),
    )
    return FluxPipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=guidance),
        vae=vae(scaling_factor=0.6, shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=clip_text(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=encoder,
        tokenizer_2=tokenizer,
    )


@pytest.fixture
def alive() -> Callable[[], list[str]]:
    """`alive()`: names of the frozen parts and denoisers that came to life during the test and that nothing has let go of."""
    import torch

    kinds = ("AutoencoderKL", "CLIPTextModel", "UNet2DConditionModel")

    def found() -> list[Any]:
        gc.collect()
        return [thing for thing in gc.get_objects() if issubclass(type(thing), torch.nn.Module) and type(thing).__name__ in kinds]

    known = weakref.WeakSet(found())
    return lambda: sorted(type(thing).__name__ for thing in found() if thing not in known)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[], Any]], Path]:
    """`saved(name, make)`: the folder of the pipeline that `make` gives with fixed random weights."""

    def save(name: str, make: Callable[[], Any]) -> Path:
        import torch
        from dpoframe_diffusion.quiet import quiet

        folder = tmp_path_factory.mktemp("pipelines") / name
        with torch.random.fork_rng(), quiet():
            torch.manual_seed(0)
            make().save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def sd(saved) -> Path:
    """The folder of a Stable Diffusion that predicts the noise."""
    return saved("sd", _stable_diffusion)


@pytest.fixture(scope="session")
def sd_v(saved) -> Path:
    """The folder of a Stable Diffusion 2 that predicts the velocity."""
    return saved("sd_v", lambda: _stable_diffusion("v_prediction", use_linear_projection=True))


@pytest.fixture(scope="session")
def sdxl(saved) -> Path:
    """The folder of a Stable Diffusion XL with text encoders of two widths."""
    return saved("sdxl", _stable_diffusion_xl)


@pytest.fixture(scope="session")
def sd3(saved) -> Path:
    """The folder of a Stable Diffusion 3 with all three text encoders."""
    return saved("sd3", _stable_diffusion_3)


@pytest.fixture(scope="session")
def sd35(saved) -> Path:
    """The folder of a Stable Diffusion 3.5: a second attention in the first block, and normalised queries and keys."""
    return saved("sd35", lambda: _stable_diffusion_3(dual_attention_layers=(0,), qk_norm="rms_norm"))


@pytest.fixture(scope="session")
def flux(saved) -> Path:
    """The folder of a Flux that is told a guidance, as dev is."""
    return saved("flux", _flux)


@pytest.fixture(scope="session")
def flux_schnell(saved) -> Path:
    """The folder of a Flux that is told none, as schnell is."""
    return saved("flux_schnell", lambda: _flux(guidance=False))


def png(colours: Any) -> Media:
    """A picture of (height, width, 3) values from 0 to 255."""
    import numpy as np
    from PIL import Image

    kept = io.BytesIO()
    Image.fromarray(np.asarray(colours, dtype=np.uint8)).save(kept, "PNG")
    return Media("image", data=kept.getvalue())


def disc(number: int, filled: bool, size: tuple[int, int] = (16, 16)) -> Media:
    """A round spot, or a ring, in one of many colours, sizes and places. `size` is (height, width)."""
    import numpy as np

    drawn = np.random.default_rng(number)
    colour, radius = drawn.integers(120, 256, 3), drawn.uniform(4, 6)
    middle = np.array(size) / 2 + drawn.uniform(-1.5, 1.5, 2)
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    distance = np.hypot(rows - middle[0], columns - middle[1])
    inside = distance < radius if filled else abs(distance - radius) < 1
    return png(np.where(inside[..., None], colour, 20))


@pytest.fixture(scope="session")
def picture() -> Callable[..., Media]:
    """`picture(number, filled, size)`: see `disc`."""
    return disc


@pytest.fixture(scope="session")
def pairs() -> Callable[..., list[PreferencePair]]:
    """`pairs(count, first)`: pairs in which a filled disc is preferred to a ring, captions in turn."""

    def make(count: int = 4, first: int = 0) -> list[PreferencePair]:
        captions = ("a disc", "a round spot", "something red")
        return [
            PreferencePair(captions[number % 3], disc(2 * number, True), disc(2 * number + 1, False), f"pair{number}")
            for number in range(first, first + count)
        ]

    return make


@pytest.fixture(scope="session")
def examples(pairs) -> Callable[..., list[Example]]:
    """`examples(pairs)`: all chosen, then all rejected, as the trainer sends them; seeds from 100."""

    def make(given: Sequence[PreferencePair] | None = None) -> list[Example]:
        numbered = list(enumerate(given or pairs(3)))
        chosen = [Example(pair.prompt, pair.chosen, 100 + number, pair.id) for number, pair in numbered]
        return chosen + [Example(pair.prompt, pair.rejected, 100 + number, pair.id) for number, pair in numbered]

    return make
