"""`dpoframe plugins` lists, checks and makes plugins, with the right exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dpoframe.cli import main
from dpoframe.plugins import PluginHost, using
from dpoframe.scaffold import KINDS_OFFERED

GOOD = "from dpoframe import hookimpl\n@hookimpl\ndef dpoframe_losses(): return {'good-loss': 'dpoframe.testing.toy:ToyLoss'}\n"
WRONG = """
from dataclasses import dataclass
from dpoframe import Loss

@dataclass(frozen=True)
class Upside(Loss):
    beta: float = 0.1

    def __call__(self, scores):
        return self.beta * (scores.chosen_logratio - scores.rejected_logratio)
"""


def run(capsys: pytest.CaptureFixture[str], host: PluginHost, *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `dpoframe plugins ...` over a host."""
    with using(host):
        code = main(["plugins", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_list(site: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The list names every plugin with its distribution and parts; what is broken, disabled or clashing is told with the reason."""
    site.add("good-dist", {"good": "module_good"}, {"module_good.py": GOOD})
    site.add("rival-dist", {"rival": "module_rival"}, {"module_rival.py": GOOD})
    site.add("bad-dist", {"bad": "module_bad"}, {"module_bad.py": "1 / 0"})
    site.add("off-dist", {"off": "module_off"}, {"module_off.py": GOOD})
    host = site.host(["off", "unheard-of"])
    code, out, err = run(capsys, host, "list")
    assert code == 0
    for part in ("good-dist 1.0", "loss: good-loss", "bad-dist 1.0", "broken", "disabled", "dpoframe "):
        assert part in out
    for part in (
        "bad is broken: module_bad could not be imported: ZeroDivisionError",
        "'good' (good-dist 1.0) and 'rival'",
        "'unheard-of'",
    ):
        assert part in err
    code, out, _ = run(capsys, host, "--json")
    document = json.loads(out)
    assert {plugin["name"]: plugin["status"] for plugin in document["plugins"]}["bad"] == "broken"
    assert document["clashes"] == [{"kind": "loss", "name": "good-loss", "plugins": ["good", "rival"]}]


def test_check_passes(site: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A plugin that holds its contracts passes with exit code 0, each check shown."""
    site.add("good-dist", {"good": "module_good"}, {"module_good.py": GOOD})
    code, out, _ = run(capsys, site.host(), "check", "good", "--json")
    document = json.loads(out)
    assert (code, document["failed"], document["skipped"]) == (0, 0, 0)
    assert [(part["kind"], part["name"]) for part in document["parts"]] == [("plugin", "good"), ("loss", "good-loss")]
    assert document["passed"] == sum(len(part["checks"]) for part in document["parts"]) > 8


def test_check_fails(tmp_path: Path, isolated_host: PluginHost, capsys: pytest.CaptureFixture[str]) -> None:
    """A part that breaks its contract fails with exit code 1, the reason and what to look at; a file needs no package."""
    file = tmp_path / "upside.py"
    file.write_text(WRONG)
    code, out, _ = run(capsys, isolated_host, "check", str(file))
    assert code == 1
    for part in (
        "loss Upside",
        "FAIL  Where the policy prefers the wrong side",
        "expected below 0",
        "If this fails: a sign is wrong",
    ):
        assert part in out


def test_check_of_what_cannot_be_checked(site: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown, broken or empty plugin, or a stray option, is one message and exit code 2."""
    site.add("bad-dist", {"bad": "module_bad"}, {"module_bad.py": "1 / 0"})
    site.add("good-dist", {"good": "module_good"}, {"module_good.py": GOOD})
    (tmp_path / "empty.py").write_text("")
    host = site.host()
    for words, said in (
        (["check", "goood"], "Did you mean 'good'?"),
        (["check", "bad"], "division by zero"),
        (["check", str(tmp_path / "empty.py")], "supplies no part"),
        (["check", "good", "--set", "colour=red"], "No part of the plugin has the field colour. Fields: margin."),
        (["check", "good", "--set", "margin"], "KEY=VALUE"),
    ):
        code, out, err = run(capsys, host, *words)
        assert (code, out) == (2, ""), words
        assert said in err
        assert "Traceback" not in err


def test_check_with_options(tmp_path: Path, isolated_host: PluginHost, capsys: pytest.CaptureFixture[str]) -> None:
    """A part with a field that must be given is skipped with the option to give, and checked where it is given."""
    file = tmp_path / "needy.py"
    file.write_text(
        WRONG.replace("float = 0.1", "float").replace(
            "scores.chosen_logratio - scores.rejected_logratio", "-1 * scores.chosen_logratio"
        )
    )
    code, out, _ = run(capsys, isolated_host, "check", str(file))
    assert code == 2
    assert "needs beta: give --set beta=..." in out
    code, out, _ = run(capsys, isolated_host, "check", str(file), "--set", "beta=0.5")
    assert (code, "0 failed" in out) == (0, True)


@pytest.mark.parametrize("kind", KINDS_OFFERED)
def test_new_plugin_passes_its_checks(kind: str, site: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """What `new` writes is a plugin that passes `plugins check` at once."""
    code, out, _ = run(capsys, PluginHost([], []), "new", kind, f"made-{kind}", "--out", str(site.folder), "--json")
    document = json.loads(out)
    folder, package = Path(document["folder"]), f"dpoframe_made_{kind}"
    assert (code, folder) == (0, site.folder / f"dpoframe-made-{kind}")
    assert {"pyproject.toml", "README.md", f"{package}/__init__.py", f"tests/test_{package}.py"} <= set(document["files"])
    (site.folder / package).symlink_to(folder / package)
    site.add(f"dpoframe-made-{kind}", {f"made-{kind}": package})
    code, out, err = run(capsys, site.host(), "check", f"made-{kind}", "--json")
    assert code == 0, out + err
    assert json.loads(out)["passed"] >= 7


def test_new_plugins_tests_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The tests that `new` writes pass under pytest, with warnings as errors, for all kinds."""
    for kind in KINDS_OFFERED:
        assert run(capsys, PluginHost([], []), "new", kind, f"made-{kind}", "--out", str(tmp_path))[0] == 0
    paths = os.pathsep.join(str(folder) for folder in tmp_path.iterdir())
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--import-mode=importlib",
        str(tmp_path),
    ]
    before = os.environ.get("PYTHONPATH", "")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [paths, before]))}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("modalety", "mine", "Did you mean 'modality'?"),
        ("suite", "mine", "no template for 'suite'"),
        ("loss", "Bad_Name", "lower-case letters, digits and single dashes"),
        ("loss", "9lives", "start with a letter"),
        ("loss", "../up", "lower-case letters"),
        ("loss", "dpoframe-x", "put in front of it anyway"),
        ("loss", "class", "reserved word"),
        ("loss", "hinge", "the plugin 'builtin' supplies the loss 'hinge'"),
    ],
)
def test_new_refuses_bad_names(kind: str, name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A kind or name that cannot be used is refused with the reason, exit code 2, and nothing is written."""
    code, _, err = run(capsys, PluginHost([], []), "new", kind, name, "--out", str(tmp_path))
    assert code == 2
    assert said in err
    assert list(tmp_path.iterdir()) == []


def test_new_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that exists is left as it is, even an empty one."""
    (tmp_path / "dpoframe-mine").mkdir()
    code, _, err = run(capsys, PluginHost([], []), "new", "loss", "mine", "--out", str(tmp_path))
    assert code == 2
    assert "exists already" in err
    assert list((tmp_path / "dpoframe-mine").iterdir()) == []


def test_new_leaves_nothing_half_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where writing fails, no folder is left behind, and the exit code is 3."""

    def full(*arguments: Any, **more: Any) -> int:
        raise OSError(28, "No space left on device", "file")

    monkeypatch.setattr(Path, "write_text", full)
    code, _, err = run(capsys, PluginHost([], []), "new", "loss", "mine", "--out", str(tmp_path))
    assert code == 3
    assert "disk is full" in err
    assert list(tmp_path.iterdir()) == []


PAIRS = """
from dpoframe import hookimpl

def pairs(count: int = 4):
    from dpoframe.testing.toy import toy_pairs
    return toy_pairs(count)

@hookimpl
def dpoframe_datasets(): return {'pairs': pairs}
"""


def test_a_data_set_is_called_so(site: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """In sentences and tables it is a data set; `dataset` is the word for the kind that commands and documents take."""
    site.add("pairs-dist", {"pairs": "module_pairs"}, {"module_pairs.py": PAIRS})
    code, out, err = run(capsys, site.host(), "check", "pairs")
    assert (code, "data set pairs\n" in out, "checked the data set pairs" in err, "dataset" in out + err) == (0, True, True, False)
    code, out, _ = run(capsys, site.host(), "check", "pairs", "--json")
    assert [part["kind"] for part in json.loads(out)["parts"]] == ["plugin", "dataset"]
    site.add("rival-dist", {"rival": "module_rival"}, {"module_rival.py": PAIRS})
    code, out, err = run(capsys, site.host(), "list")
    assert "data set: pairs" in out
    assert "The data set 'pairs' is supplied by the plugins" in err
    assert "dataset" not in out + err
    code, _, err = run(capsys, site.host(), "new", "dataset", "jsonl")
    assert (code, "supplies the data set 'jsonl'" in err) == (2, True)


def test_the_list_fits_a_page_in_a_pipe(site: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Where stdout is no terminal no line of the list has over 100 columns, and no name of what is supplied is cut or lost."""
    names = [f"loss-number-{number}" for number in range(40)]
    many = GOOD.replace("{'good-loss': 'dpoframe.testing.toy:ToyLoss'}", f"dict.fromkeys({names}, 'dpoframe.testing.toy:ToyLoss')")
    site.add("a-distribution-of-quite-a-name", {"many": "module_many"}, {"module_many.py": many})
    code, out, _ = run(capsys, site.host(), "list")
    assert code == 0
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 100
    assert set(names) <= set(out.replace(",", " ").split())
    assert "a-distribution-of-quite-a-name 1.0" in out
