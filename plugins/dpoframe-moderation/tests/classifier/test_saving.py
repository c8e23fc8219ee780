"""Folders that plain transformers and peft load and that score the same; models that cannot be loaded."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import torch
from dpoframe_moderation.classifier.adapters import LoraSection
from dpoframe_moderation.classifier.modality import TextClassifier
from dpoframe_moderation.classifier.own_code import named_in, told
from dpoframe_moderation.classifier.source import Source

from dpoframe import CheckpointError, ConfigError, Example, Request

from .conftest import LABELS

NAMED = dict(enumerate(LABELS))
EXAMPLES = [Example("i hate you", "hate\nnot unsafe", 0, "a"), Example("have a nice day you all", "violence", 0, "b")]


def changed(modality):
    """The modality's model with weights that no file holds."""
    model = modality.build().eval()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += torch.randn_like(parameter) * 0.1
    return model


def values(modality, model):
    """Scores of the examples."""
    with torch.no_grad():
        return modality.score(model, modality.collate(EXAMPLES)).value


def plain_values(model, tokenizer):
    """The same out of transformers' own logits, one text at a time, places by the model's own names of labels."""
    found = []
    places = {name: index for index, name in model.config.id2label.items()}
    for example in EXAMPLES:
        with torch.no_grad():
            logits = model(**tokenizer(example.prompt, return_tensors="pt")).logits[0].double()
        lines = example.response.splitlines()
        terms = [(-1 if line.startswith("not ") else 1) * logits[places[line.removeprefix("not ")]] for line in lines]
        found.append(sum(torch.nn.functional.logsigmoid(term) for term in terms))
    return torch.stack(found)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("family", ["encoder", "decoder"])
@pytest.mark.parametrize("switches", [{}, {"head_only": True}, {"lora": LoraSection(r=4)}])
@pytest.mark.parametrize("merge", [False, True])
def test_round_trip(family, switches, merge, request, tmp_path):
    """What is saved scores the same when dpoframe reads it, and when plain transformers (with peft) does, labels named."""
    from peft import AutoPeftModelForSequenceClassification
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = str(request.getfixturevalue(family))
    modality = TextClassifier(folder, LABELS, merge_on_save=merge, head_seed=3, **switches)
    model = changed(modality)
    expected = values(modality, model)
    modality.save(model, tmp_path)
    read = modality.load(tmp_path)
    assert not read.training
    torch.testing.assert_close(values(modality, read), expected, rtol=1e-6, atol=1e-6)
    adapter = (tmp_path / "adapter_config.json").is_file()
    assert adapter == ("lora" in switches and not merge)
    reader = AutoPeftModelForSequenceClassification if adapter else AutoModelForSequenceClassification
    plain = reader.from_pretrained(tmp_path, **({"num_labels": len(LABELS)} if adapter else {})).eval()
    if adapter:
        plain.config.pad_token_id = modality._encoder.padding
        plain.config.id2label = dict(enumerate(LABELS))
        with modality.without_adapter(read):
            torch.testing.assert_close(values(modality, read), values(modality, modality.build()), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(plain_values(plain, AutoTokenizer.from_pretrained(tmp_path)), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(values(modality, model), expected, rtol=0, atol=0)
    assert TextClassifier.recognises(tmp_path)
    assert not TextClassifier.recognises(request.getfixturevalue(family))


def test_a_classifier_brings_its_labels(encoder, tmp_path):
    """A folder of a classifier is taken as it is, named by its own labels; `pipeline` gives the probabilities that answers tell."""
    from transformers import pipeline

    first = TextClassifier(str(encoder), LABELS)
    model = changed(first)
    first.save(model, tmp_path)
    second = TextClassifier(str(tmp_path))
    assert second.fingerprint()["labels"] == list(LABELS)
    torch.testing.assert_close(values(second, second.build().eval()), values(first, model), rtol=1e-6, atol=1e-6)
    (sample,) = second.generate(second.build().eval(), [Request("a", "i hate you")])
    (rows,) = pipeline("text-classification", str(tmp_path), top_k=None, device="cpu")(["i hate you"])
    own = {name.removeprefix("p/"): value for name, value in sample.detail.items() if name.startswith("p/")}
    assert own == pytest.approx({row["label"]: row["score"] for row in rows}, abs=1e-5)


def test_single_labels_come_back(encoder, tmp_path):
    """Whether labels exclude each other is saved with them."""
    first = TextClassifier(str(encoder), ("safe", "hate"), multi_label=False)
    first.save(first.build(), tmp_path)
    assert TextClassifier(str(tmp_path)).fingerprint()["multi_label"] is False


def test_other_labels_than_the_models(made, encoder, tmp_path):
    """Other labels than those of the head are refused, unless a new head is asked for; unnamed ones may be named."""
    first = TextClassifier(str(encoder), LABELS)
    (tmp_path / "named").mkdir()
    first.save(changed(first), tmp_path / "named")
    with pytest.raises(ConfigError, match="has the labels unsafe, hate, violence, but spam, ham are given"):
        TextClassifier(str(tmp_path / "named"), ("spam", "ham")).build()
    fresh = TextClassifier(str(tmp_path / "named"), ("spam", "ham"), new_head=True)
    assert fresh.build().classifier.weight.shape[0] == 2
    same = TextClassifier(str(tmp_path / "named"), LABELS, new_head=True).build().classifier
    assert not torch.equal(same.weight, TextClassifier(str(tmp_path / "named")).build().classifier.weight)
    assert not same.bias.any()
    unnamed = made(tmp_path / "unnamed", "bert", "ForSequenceClassification", num_labels=3)
    assert TextClassifier(str(unnamed), LABELS).fingerprint()["labels"] == list(LABELS)
    with pytest.raises(ConfigError, match="'labels'"):
        TextClassifier(str(encoder)).build()


def test_training_goes_on_from_an_adapter(encoder, tmp_path):
    """An adapter folder named as the model is merged first: new adapters switched off give back the adapted model."""
    first = TextClassifier(str(encoder), LABELS, lora=LoraSection(r=4))
    model = changed(first)
    first.save(model, tmp_path)
    second = TextClassifier(str(tmp_path), LABELS, lora=LoraSection(r=2))
    again = second.build()
    torch.testing.assert_close(values(second, again), values(first, model), rtol=1e-5, atol=1e-6)
    for parameter in again.parameters():
        if parameter.requires_grad:
            parameter.data.normal_()
    with second.without_adapter(again):
        torch.testing.assert_close(values(second, again), values(first, model), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("switches", [{}, {"lora": LoraSection(r=4)}])
def test_a_run_read_on_another_machine(encoder, switches, tmp_path):
    """A saved model brings tokenizer and labels: it scores although the model it was made from lies elsewhere now."""
    home = tmp_path / "home"
    shutil.copytree(encoder, home)
    modality = TextClassifier(str(home), LABELS, **switches)
    model = changed(modality)
    folder = tmp_path / "saved"
    folder.mkdir()
    modality.save(model, folder)
    expected = values(modality, model)
    home.rename(tmp_path / "moved")
    away = dataclasses.replace(modality, model=str(tmp_path / "moved") if switches else "/a/folder/of/another/machine")
    torch.testing.assert_close(values(away, away.load(folder)), expected, rtol=1e-6, atol=1e-6)


def test_what_is_no_model(encoder, tmp_path):
    """A path without a model, a broken file and an encoder that lacks weights are CheckpointErrors that say what is wrong."""
    with pytest.raises(CheckpointError, match="There is no model at"):
        TextClassifier(str(tmp_path / "nothing"), LABELS).build()
    broken = tmp_path / "broken"
    shutil.copytree(encoder, broken)
    (broken / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        TextClassifier(str(broken), LABELS).build()
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(CheckpointError, match=r"the GGUF file .*broken\.gguf cannot be loaded"):
        TextClassifier(str(tmp_path / "broken.gguf"), LABELS).build()
    lacking = tmp_path / "lacking"
    shutil.copytree(encoder, lacking)
    from safetensors.torch import load_file, save_file

    kept = {name: part for name, part in load_file(lacking / "model.safetensors").items() if "layer.1." not in name}
    save_file(kept, lacking / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="lacks 16 weights of a BertForSequenceClassification"):
        TextClassifier(str(lacking), LABELS).build()


def test_pickles_are_not_read(encoder, tmp_path):
    """Weights that lie there as a pickle alone are refused, a model's and an adapter's, and nothing in the pickle is called."""
    folder, trap = tmp_path / "pickled", tmp_path / "trap"
    shutil.copytree(encoder, folder)
    (folder / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "adapter_model.bin"):
        (folder / name).write_bytes(b"cbuiltins\nopen\n(V" + str(trap).encode() + b"\nVw\ntR.")
    with pytest.raises(CheckpointError, match="safetensors alone"):
        TextClassifier(str(folder), LABELS).build()
    adapter = {"peft_type": "LORA", "task_type": "SEQ_CLS", "base_model_name_or_path": str(encoder)}
    (folder / "adapter_config.json").write_text(json.dumps(adapter))
    (folder / "config.json").write_text(json.dumps({**json.loads((folder / "config.json").read_text()), "id2label": NAMED}))
    with pytest.raises(CheckpointError, match=r"no adapter_model\.safetensors"):
        TextClassifier(str(folder)).build()
    assert not trap.exists()


CODE = """
from transformers import BertConfig, BertForSequenceClassification
class Config(BertConfig):
    model_type = "own"
class Model(BertForSequenceClassification):
    config_class = Config
"""


def test_code_that_was_allowed_is_named(encoder, tmp_path):
    """Code that a model brings is refused without consent; with it a warning names the folder and the file before it runs."""
    folder = tmp_path / "coded"
    shutil.copytree(encoder, folder)
    (folder / "own.py").write_text(CODE)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForSequenceClassification": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="set trust_remote_code: true"):
        TextClassifier(str(folder), LABELS).build()
    with pytest.warns(RuntimeWarning, match=r"runs now: own\.py of .*coded\.$"):
        model = TextClassifier(str(folder), LABELS, trust_remote_code=True).build()
    assert type(model).__name__ == "Model"


def test_the_origin_of_code_is_told_by_repository_and_revision():
    """Code of a model on the hub is named with its revision, or that none is fixed; another repository's by its own name."""
    hub = Source("hub", "some/model")
    assert told("some/model", ["m.py"], hub, "abc123").endswith("m.py of some/model at revision abc123.")
    assert told("some/model", ["m.py"], hub, None).endswith("m.py of some/model at its newest revision.")
    assert told("other/code", ["m.py"], hub, "abc123").endswith("m.py of other/code at its newest revision.")
    assert list(named_in({"auto_map": {"A": "other/code--m.C", "B": ["t.Slow", None]}})) == [("other/code", "m"), ("", "t")]
    assert list(named_in({"auto_map": 5})) == []


def test_what_older_readers_need(decoder, tmp_path):
    """The configuration names what transformers 4 reads, and the tokenizer a class that it has."""
    modality = TextClassifier(str(decoder), LABELS)
    modality.save(modality.build(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["torch_dtype"], config["pad_token_id"], config["problem_type"]) == ("float32", 3, "multi_label_classification")
    assert config["id2label"] == {"0": "unsafe", "1": "hate", "2": "violence"}
    assert "rope_theta" in config
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"
