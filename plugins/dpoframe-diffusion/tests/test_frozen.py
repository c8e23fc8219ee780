"""VAE and text encoders: loaded apart, equal to diffusers' own arithmetic, and known by a digest of their files."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from dpoframe_diffusion.digests import image_digest, part_files, text_digest
from dpoframe_diffusion.frozen import Frozen, encoding_device, vae_dtype
from dpoframe_diffusion.loading import Location
from dpoframe_diffusion.memory import enough_memory
from safetensors.torch import load_file, save_file

from dpoframe import CheckpointError, ConfigError, MachineError

FAMILIES = ["sd", "sdxl", "sd3", "sd35", "flux"]
VAE = "vae/diffusion_pytorch_model.safetensors"


@pytest.fixture
def copied(sd, tmp_path):
    """A copy of the Stable Diffusion that a test may change."""
    return shutil.copytree(sd, tmp_path / "copy")


def edit(file, **changes):
    """Sets keys of a JSON file; None takes one away."""
    content = {**json.loads(file.read_text()), **changes}
    gone = {name for name, value in changes.items() if value is None}
    file.write_text(json.dumps({name: value for name, value in content.items() if name not in gone}))


def pictures(count=2, height=16, width=24):
    """Pixels in [-1, 1]."""
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(3)) * 2 - 1


@pytest.mark.parametrize("name", FAMILIES)
def test_moments_are_the_vaes_own(name, request):
    """Mean and standard deviation are those of diffusers' posterior for the picture alone, as the VAE gives them."""
    from diffusers import AutoencoderKL

    folder = request.getfixturevalue(name)
    with Frozen(Location(str(folder))) as frozen:
        mean, std = frozen.moments(pictures())
    plain = AutoencoderKL.from_pretrained(folder, subfolder="vae")
    for number, one in enumerate(pictures()):
        with torch.no_grad():
            posterior = plain.encode(one[None]).latent_dist
        assert torch.equal(mean[number], posterior.mean[0])
        assert torch.equal(std[number], posterior.std[0])
    assert mean.shape[2:] == (8, 12)
    assert mean.dtype == std.dtype == torch.float32


@pytest.mark.parametrize("name", FAMILIES)
def test_conditions_are_the_whole_pipelines(name, request):
    """What is kept of a prompt is what the whole pipeline gives for it alone."""
    from diffusers import DiffusionPipeline

    where = Location(str(request.getfixturevalue(name)))
    with Frozen(where) as frozen:
        found = frozen.prompts(["a disc", "something red"])
    whole = DiffusionPipeline.from_pretrained(where.folder)
    for text, kept in zip(["a disc", "something red"], found, strict=True):
        with torch.no_grad():
            wanted = where.family.encode_prompts(whole, [text])
        assert kept.keys() == wanted.keys() == set(where.family.conditions)
        assert all(torch.equal(kept[key], wanted[key][0]) for key in wanted)


def test_conditions_are_the_encoders_own(sdxl):
    """For SDXL written out: the second-last states of both encoders side by side, and the second's projection."""
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    with Frozen(Location(str(sdxl))) as frozen:
        (found,) = frozen.prompts(["a disc"])
    states = []
    for end, kind in (("", CLIPTextModel), ("_2", CLIPTextModelWithProjection)):
        tokenizer = CLIPTokenizer.from_pretrained(sdxl, subfolder=f"tokenizer{end}")
        encoder = kind.from_pretrained(sdxl, subfolder=f"text_encoder{end}")
        ids = tokenizer("a disc", padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt").input_ids
        with torch.no_grad():
            told = encoder(ids, output_hidden_states=True)
        states.append(told.hidden_states[-2][0])
    torch.testing.assert_close(found["prompt_embeds"], torch.cat(states, -1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found["pooled_prompt_embeds"], told.text_embeds[0], rtol=1e-6, atol=1e-6)


def test_parts_are_loaded_apart_and_let_go(sd, alive):
    """A picture loads no text encoder, a prompt no VAE, neither the denoiser; afterwards none of them is alive."""
    assert alive() == []
    with Frozen(Location(str(sd))) as frozen:
        assert alive() == []
        frozen.moments(pictures())
        assert alive() == ["AutoencoderKL"]
        frozen.release_vae()
        assert alive() == []
        frozen.prompts(["a disc"])
        assert alive() == ["CLIPTextModel"]
    assert alive() == []
    # Released, not closed: it can be asked again.
    assert frozen.moments(pictures(1))[0].shape == (1, 4, 8, 12)
    frozen.release()
    assert alive() == []


def test_neighbours_change_no_bit(sd):
    """A picture among others, or under autocast, is encoded as it is alone."""
    with Frozen(Location(str(sd))) as frozen:
        together = frozen.moments(pictures(3))[0]
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(frozen.moments(pictures(3)[1:2])[0], together[1:2])
        assert not together.requires_grad
        several = frozen.prompts(["a disc", "a longer prompt of many words", "a disc"])
        assert torch.equal(several[0]["prompt_embeds"], several[2]["prompt_embeds"])


def test_a_vae_without_a_posterior(copied):
    """A tiny autoencoder gives its latents, and a deviation of nought."""
    from diffusers import AutoencoderTiny

    shutil.rmtree(copied / "vae")
    tiny = AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1)
    )
    tiny.save_pretrained(copied / "vae")
    edit(copied / "model_index.json", vae=["diffusers", "AutoencoderTiny"])
    with Frozen(Location(str(copied))) as frozen:
        mean, std = frozen.moments(pictures(1))
    with torch.no_grad():
        assert torch.equal(mean, tiny.eval().encode(pictures(1)).latents)
    assert not std.any()


def test_the_type_of_the_vae(copied):
    """float32 unless the configuration says that it need not be; then the type that was asked for."""
    config = copied / "vae" / "config.json"
    for given, expected in ((True, "float32"), (None, "float32"), (False, "float16")):
        edit(config, force_upcast=given)
        assert vae_dtype(Location(str(copied)), "float16") == expected


def test_digests_follow_what_decides_the_encoding(copied, tmp_path):
    """Weights and settings change the digest; notes of the libraries, dates and other parts do not."""
    where = Location(str(copied))
    images, texts = image_digest(where), text_digest(where)
    edit(copied / "vae" / "config.json", _diffusers_version="9.9", _name_or_path="/elsewhere")
    edit(copied / "text_encoder" / "config.json", transformers_version="9.9")
    (copied / VAE).touch()
    (copied / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"other")
    moved = Location(str(shutil.copytree(copied, tmp_path / "moved")))
    for one in (where, moved):
        assert (image_digest(one), text_digest(one)) == (images, texts)
    weights = load_file(copied / VAE)
    weights["encoder.conv_in.bias"][0] += 1e-6
    save_file(weights, copied / VAE, {"format": "pt"})
    assert image_digest(where) != images
    assert text_digest(where) == texts
    edit(moved.folder / "vae" / "config.json", norm_num_groups=2)
    assert image_digest(moved) != images
    (moved.folder / "tokenizer" / "tokenizer_config.json").write_text("{}")
    assert text_digest(moved) != texts


def test_parts_that_a_pipeline_does_without(sd3, tmp_path):
    """A null component is no part of the digest; one that is listed and not there is an error."""
    folder = shutil.copytree(sd3, tmp_path / "without")
    with_t5 = text_digest(Location(str(folder)))
    shutil.rmtree(folder / "text_encoder_3")
    with pytest.raises(CheckpointError, match="no folder 'text_encoder_3'"):
        text_digest(Location(str(folder)))
    shutil.rmtree(folder / "tokenizer_3")
    edit(folder / "model_index.json", text_encoder_3=[None, None], tokenizer_3=[None, None])
    assert text_digest(Location(str(folder))) != with_t5
    with Frozen(Location(str(folder))) as frozen:
        assert frozen.prompts(["a disc"])[0]["pooled_prompt_embeds"].ndim == 1


def test_nothing_is_loaded_for_a_digest(sd, alive):
    """Digests read files; no part comes to life."""
    image_digest(Location(str(sd)))
    text_digest(Location(str(sd)))
    assert alive() == []


def test_files_of_a_variant(copied):
    """A variant's files are taken where it has its own, under plain names; another variant's, and pickles, are left out."""
    vae = copied / "vae"
    (vae / "diffusion_pytorch_model.fp16.safetensors").write_bytes((copied / VAE).read_bytes()[::-1])
    (vae / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    plain, half = Location(str(copied)), Location(str(copied), variant="fp16")
    names = ["config.json", "diffusion_pytorch_model.safetensors"]
    assert list(part_files(plain, "vae")) == list(part_files(half, "vae")) == names
    assert part_files(plain, "vae")[names[1]] == copied / VAE
    assert part_files(half, "vae")[names[1]] == vae / "diffusion_pytorch_model.fp16.safetensors"
    assert image_digest(plain) != image_digest(half)
    for name in ("a-00001-of-00002.safetensors", "a.safetensors.index.json", "a.safetensors.index.fp16.json"):
        (vae / name).write_text("{}")
    assert {"a-00001-of-00002.safetensors", "a.safetensors.index.json"} < set(part_files(plain, "vae"))
    assert "a.safetensors.index.fp16.json" not in part_files(plain, "vae")


def test_damaged_parts_are_explained(copied):
    """A VAE that is cut off, of an unknown class or not there is one clear error; so are missing tokenizers."""
    file = copied / VAE
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="vae of the pipeline"):
        Frozen(Location(str(copied))).moments(pictures(1))
    edit(copied / "model_index.json", vae=["diffusers", "AutoencoderOfTheFuture"])
    with pytest.raises(ConfigError, match="AutoencoderOfTheFuture"):
        Frozen(Location(str(copied))).moments(pictures(1))
    shutil.rmtree(copied / "tokenizer")
    with pytest.raises(CheckpointError, match="no folder 'tokenizer'"):
        text_digest(Location(str(copied)))
    (copied / "text_encoder" / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json is no JSON"):
        text_digest(Location(str(copied)))
    with pytest.raises((CheckpointError, ConfigError)):
        Frozen(Location(str(copied))).prompts(["a disc"])


def test_memory_that_does_not_suffice():
    """Where memory runs out the error says for what; other errors pass."""
    for error in (torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("can't allocate memory")):
        with pytest.raises(MachineError, match="Encoding a picture needs more memory"), enough_memory("Encoding a picture"):
            raise error
    with pytest.raises(RuntimeError, match="shapes"), enough_memory("Encoding a picture"):
        raise RuntimeError("shapes do not match")


def test_a_forked_process_leaves_its_parents_gpu(sd, monkeypatch):
    """Parts that the parent has on a GPU are not touched in a worker, which loads its own; those on the CPU are shared."""
    frozen = Frozen(Location(str(sd)))
    expected, _ = frozen.moments(pictures(1))
    mine = frozen.vae
    monkeypatch.setattr(frozen, "_process", -1)
    assert torch.equal(frozen.moments(pictures(1))[0], expected)
    assert frozen.vae is mine
    on_gpu = SimpleNamespace(device=torch.device("cuda", 0))
    frozen.__dict__["vae"] = on_gpu
    monkeypatch.setattr(frozen, "_process", -1)
    assert torch.equal(frozen.moments(pictures(1))[0], expected)
    assert frozen._inherited == [on_gpu]


def test_workers_encode_on_the_cpu(monkeypatch):
    """A GPU is used by the main process, the one of its rank; data-loading workers, which are forked, keep off it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert encoding_device() == torch.device("cuda", 3)
    assert encoding_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.utils.data, "get_worker_info", lambda: "a worker")
    assert encoding_device() == torch.device("cpu")


def test_pickles_are_not_read(copied):
    """A part whose weights are a pickle alone is refused, with what to do; the pickle is not opened."""
    for part in ("vae", "unet"):
        (copied / part / "diffusion_pytorch_model.safetensors").unlink()
        (copied / part / "diffusion_pytorch_model.bin").write_bytes(b"cbuiltins\nexit\n(tR.")
    with pytest.raises(CheckpointError, match=r"vae .*\.safetensors alone"):
        Frozen(Location(str(copied))).vae  # noqa: B018 - the access is what is tested
    with pytest.raises(CheckpointError, match=r"unet .*\.safetensors alone"):
        Location(str(copied)).denoiser()


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (["evil", "Evil"], r"text_encoder: evil\.Evil"),
        (["os.path", "join"], r"text_encoder: os\.path\.join"),
        (None, "_class_name|evil"),
    ],
)
def test_a_pipelines_own_code_is_refused(entry, told, copied):
    """A part that names a module beside it or a library of its own, or a pipeline class out of a file, is refused unread."""
    (copied / "text_encoder" / "evil.py").write_text("raise SystemExit('ran')\n")
    edit(copied / "model_index.json", **({"text_encoder": entry} if entry else {"_class_name": ["evil", "Evil"]}))
    with pytest.raises(ConfigError, match=rf"brings code of its own.*({told}).*No code of a pipeline is run"):
        Location(str(copied)).index  # noqa: B018 - the access is what is tested
