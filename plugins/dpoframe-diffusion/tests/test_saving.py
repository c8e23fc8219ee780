"""Folders that plain diffusers loads, and that predict the same."""

from __future__ import annotations

import json
import resource
import shutil

import pytest
import torch
from diffusers import DiffusionPipeline
from dpoframe_diffusion import saving
from dpoframe_diffusion.digests import image_digest, part_files, text_digest
from dpoframe_diffusion.framing import FramingSection
from dpoframe_diffusion.loading import Location
from dpoframe_diffusion.modality import DiffusionModality, LoraSection
from dpoframe_diffusion.saving import LORA, base_of
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dpoframe import CheckpointError, MachineError

FAMILIES = ["sd", "sd_v", "sdxl", "sd3", "flux"]
SMALL = FramingSection(resolution=16)


def changed(modality):
    """The modality's model with weights that no file holds."""
    model = modality.build().eval()
    drawn = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += torch.randn(parameter.shape, generator=drawn) * 0.2
    return model


def prediction(modality, denoiser):
    """What a denoiser says of some noise at some time, for random conditions of the right shape."""
    from dpoframe_diffusion.frozen import Frozen

    family, drawn = modality.location.family, torch.Generator().manual_seed(2)
    with Frozen(modality.location) as frozen:
        conditions = {name: tensor[None] for name, tensor in frozen.prompts(["a disc"])[0].items()}
    noisy = torch.randn(1, modality.location.config("vae")["latent_channels"], 8, 8, generator=drawn)
    time = modality.location.process.draw(torch.Generator().manual_seed(3), modality.timesteps)[None]
    sizes = torch.tensor([[16, 16, 0, 0, 16, 16]])
    kind = next(parameter.dtype for parameter in denoiser.parameters())
    conditions = {name: tensor.to(kind) for name, tensor in conditions.items()}
    with torch.no_grad():
        return family.predict(denoiser, noisy.to(kind), time, conditions, sizes).float()


def plain_pipeline(folder):
    """The pipeline as anybody loads it."""
    return DiffusionPipeline.from_pretrained(folder)


@pytest.mark.parametrize("alpha", [None, 3.0])
@pytest.mark.parametrize("name", FAMILIES)
def test_adapters_in_plain_diffusers(name, alpha, request, tmp_path):
    """The LoRA file is one that `load_lora_weights` reads; the prediction is the trained model's, whatever the scale was."""
    modality = DiffusionModality(model=str(request.getfixturevalue(name)), lora=LoraSection(r=2, alpha=alpha), framing=SMALL)
    model = changed(modality)
    expected, before = prediction(modality, model), prediction(modality, modality.location.denoiser())
    modality.save(model, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [LORA]
    pipe = plain_pipeline(modality.model)
    pipe.load_lora_weights(tmp_path)
    found = prediction(modality, getattr(pipe, modality.location.family.denoiser))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert (found - before).abs().max() > 1e-2
    # Readers that take no notice of the configuration (older diffusers, other programs) have the same.
    tensors = load_file(tmp_path / LORA)
    save_file(tensors, tmp_path / LORA, {"format": "pt"})
    bare = plain_pipeline(modality.model)
    bare.load_lora_weights(tmp_path)
    torch.testing.assert_close(prediction(modality, getattr(bare, modality.location.family.denoiser)), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("lora", [None, LoraSection(r=2, alpha=3.0)])
@pytest.mark.parametrize("name", FAMILIES)
def test_whole_pipelines_in_plain_diffusers(name, lora, request, tmp_path):
    """All weights trained, or adapters merged on saving: `from_pretrained` loads the folder, and the prediction is the same."""
    modality = DiffusionModality(model=str(request.getfixturevalue(name)), lora=lora, merge_on_save=lora is not None, framing=SMALL)
    model = changed(modality)
    weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    expected = prediction(modality, model)
    modality.save(model, tmp_path)
    pipe = plain_pipeline(tmp_path)
    denoiser = getattr(pipe, modality.location.family.denoiser)
    assert not hasattr(denoiser, "peft_config")
    torch.testing.assert_close(prediction(modality, denoiser), expected, rtol=0, atol=1e-5)
    # The frozen parts are the base's to the byte, so its cached encodings serve; the model saved is as it was.
    saved = Location(str(tmp_path))
    assert image_digest(saved) == image_digest(modality.location)
    assert text_digest(saved) == text_digest(modality.location)
    assert all(torch.equal(tensor, weights[key]) for key, tensor in model.state_dict().items())
    assert str(modality.model) not in "".join(file.read_text() for file in tmp_path.rglob("*.json"))


@pytest.mark.parametrize(("lora", "merge"), [(None, False), (LoraSection(r=2), False), (LoraSection(r=2, alpha=5.0), True)])
def test_reading_back(sd, tmp_path, lora, merge):
    """`load` gives the saved model, in evaluation mode; with adapters they can be switched off, which gives the base."""
    modality = DiffusionModality(model=str(sd), lora=lora, merge_on_save=merge)
    model = changed(modality)
    modality.save(model, tmp_path)
    read = modality.load(tmp_path)
    assert not read.training
    torch.testing.assert_close(prediction(modality, read), prediction(modality, model), rtol=0, atol=1e-5)
    if lora is not None and not merge:
        with modality.without_adapter(read):
            assert torch.equal(prediction(modality, read), prediction(modality, modality.location.denoiser()))
        # What was read can be written again, with the same content.
        (tmp_path / "again").mkdir()
        modality.save(read, tmp_path / "again")
        assert (tmp_path / "again" / LORA).read_bytes() == (tmp_path / LORA).read_bytes()
        assert {name for name, parameter in read.named_parameters() if parameter.requires_grad} == {
            name for name in read.state_dict() if ".lora_" in name
        }


def test_adapters_of_half_precision_models(sd, tmp_path):
    """Adapters trained in float32 on bfloat16 weights are written and read in float32."""
    modality = DiffusionModality(model=str(sd), dtype="bfloat16", lora=LoraSection(r=2))
    model = changed(modality)
    modality.save(model, tmp_path)
    read = modality.load(tmp_path)
    mine, theirs = dict(model.named_parameters()), dict(read.named_parameters())
    assert mine.keys() == theirs.keys()
    assert all(mine[name].dtype == theirs[name].dtype and torch.equal(mine[name], theirs[name]) for name in mine)


def test_the_file_names_its_base(sd, tmp_path):
    """The LoRA file says which pipeline it belongs to, and how its adapters were made."""
    modality = DiffusionModality(model=str(sd), lora=LoraSection(r=2, alpha=4.0))
    assert base_of(tmp_path) is None
    modality.save(modality.build(), tmp_path)
    assert base_of(tmp_path) == str(sd)
    with safe_open(tmp_path / LORA, "pt") as opened:
        told = json.loads(opened.metadata()["lora_adapter_metadata"])
    assert told["unet.r"] == 2
    # Multiplied into the weights: a reader must not multiply again.
    assert told["unet.lora_alpha"] == 2
    assert "to_q" in told["unet.target_modules"]


def test_equal_models_write_equal_files(sd, tmp_path):
    """Two saves of equal models write the same bytes, adapters and whole pipelines."""
    for number, merge in enumerate((False, True)):
        modality = DiffusionModality(model=str(sd), lora=LoraSection(r=2), merge_on_save=merge)
        folders = [tmp_path / f"{number}{side}" for side in "ab"]
        for folder in folders:
            folder.mkdir()
            modality.save(modality.build(), folder)
        names = sorted(file.relative_to(folders[0]) for file in folders[0].rglob("*") if file.is_file())
        assert names == sorted(file.relative_to(folders[1]) for file in folders[1].rglob("*") if file.is_file())
        for name in names:
            assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name


def test_merging_is_exact_arithmetic(sd):
    """Merged weights are W + alpha / r B A, computed in float64 here; of bfloat16 weights, rounded once."""
    for dtype, allowed in (("float32", 1e-6), ("bfloat16", 2**-8)):
        modality = DiffusionModality(model=str(sd), dtype=dtype, lora=LoraSection(r=2, alpha=3.0))
        model = changed(modality)
        whole = saving.merged(model).state_dict()
        count = 0
        for name, layer in model.named_modules():
            if hasattr(layer, "lora_A"):
                base = layer.base_layer.weight.double()
                delta = 1.5 * layer.lora_B["default"].weight.double() @ layer.lora_A["default"].weight.double()
                torch.testing.assert_close(whole[f"{name}.weight"].double(), base + delta, rtol=allowed, atol=allowed)
                assert whole[f"{name}.weight"].dtype == layer.base_layer.weight.dtype
                count += 1
        assert count >= 8


def test_variants_are_saved_under_plain_names(sd, tmp_path):
    """A base that was read as its fp16 variant is saved so that it loads without naming a variant."""
    base = shutil.copytree(sd, tmp_path / "base")
    for part in ("unet", "vae", "text_encoder"):
        (weights,) = (base / part).glob("*.safetensors")
        weights.rename(weights.with_suffix(".fp16.safetensors"))
    modality = DiffusionModality(model=str(base), variant="fp16")
    model = changed(modality)
    folder = tmp_path / "saved"
    folder.mkdir()
    modality.save(model, folder)
    assert not list(folder.rglob("*fp16*"))
    pipe = plain_pipeline(folder)
    torch.testing.assert_close(prediction(modality, pipe.unet), prediction(modality, model), rtol=0, atol=1e-6)
    assert image_digest(Location(str(folder))) == image_digest(modality.location)


def test_only_what_is_loaded_is_copied(sd, tmp_path):
    """Pickles and other variants beside the safetensors, and files at the top, are left where they are."""
    base = shutil.copytree(sd, tmp_path / "base")
    for name in (
        "vae/diffusion_pytorch_model.bin",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "v1-5-pruned.ckpt",
        "README.md",
    ):
        (base / name).write_bytes(b"large")
    folder = tmp_path / "saved"
    folder.mkdir()
    modality = DiffusionModality(model=str(base))
    modality.save(modality.build(), folder)
    assert sorted(file.name for file in (folder / "vae").iterdir()) == sorted(part_files(modality.location, "vae"))
    assert sorted(entry.name for entry in folder.iterdir()) == sorted(
        ["model_index.json", *(entry.name for entry in sd.iterdir() if entry.is_dir())]
    )


def test_training_goes_on_from_a_saved_pipeline(sd, tmp_path):
    """A saved pipeline is a base like any other: new adapters switched off give back the saved model."""
    first = DiffusionModality(model=str(sd), lora=LoraSection(r=2), merge_on_save=True)
    model = changed(first)
    first.save(model, tmp_path)
    second = DiffusionModality(model=str(tmp_path), lora=LoraSection(r=2))
    again = changed(second)
    with second.without_adapter(again):
        torch.testing.assert_close(prediction(second, again), prediction(first, model), rtol=0, atol=1e-5)


@pytest.mark.parametrize("lora", [None, LoraSection(r=2)])
def test_a_full_disk(sd, tmp_path, lora):
    """A write that the system refuses is an error of the machine's, or the system's own, which an export turns into one."""
    modality = DiffusionModality(model=str(sd), lora=lora)
    model = modality.build()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Enough for the frozen parts, too little for what is trained.
    room = 2**10 if lora else (modality.location.folder / "vae" / "diffusion_pytorch_model.safetensors").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(OSError if lora else MachineError, match="File too large"):
            modality.save(model, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_cannot_be_read(sd, sdxl, tmp_path):
    """An empty folder, a damaged file, another's layout and adapters of another model are CheckpointErrors that say which."""
    modality = DiffusionModality(model=str(sd), lora=LoraSection(r=2))
    with pytest.raises(CheckpointError, match=r"holds neither pytorch_lora_weights\.safetensors nor model_index\.json"):
        modality.load(tmp_path)
    modality.save(modality.build(), tmp_path)
    file = tmp_path / LORA
    whole = file.read_bytes()
    with pytest.raises(CheckpointError, match=r"do not fit the unet of .*They were trained on"):
        DiffusionModality(model=str(sdxl)).load(tmp_path)
    for content in (whole[:-10], b"", b"nothing that can be read as such a file"):
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match="is damaged or cannot be read"):
            modality.load(tmp_path)
    file.write_bytes(whole)
    tensors = load_file(file)
    with safe_open(file, "pt") as opened:
        about = opened.metadata()
    name = next(iter(tensors))
    for wrong, told in (({name: tensors[name]}, "do not fit"), ({**tensors, name: torch.zeros(3, 3)}, "of shape")):
        save_file(wrong, file, about)
        with pytest.raises(CheckpointError, match=told):
            modality.load(tmp_path)
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match="that dpoframe wrote"):
        modality.load(tmp_path)
