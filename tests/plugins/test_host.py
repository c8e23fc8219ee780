"""The host loads what works, sets the rest aside with its error, and finds parts by name."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from dpoframe import MissingExtraError, PluginError, UnknownNameError, hookimpl
from dpoframe.plugins import KINDS, PluginHost, host, using
from dpoframe.testing.toy import ToyLoss, ToyModality

GOOD = """
from dpoframe import hookimpl
from dpoframe.testing.toy import ToyLoss

@hookimpl
def dpoframe_losses():
    return {"good-loss": ToyLoss}
"""


def broken(site: Any, code: str, **more: Any) -> str:
    """The error of the only plugin `bad`, made of `code`, beside one that works."""
    site.add("aaa-bad", {"bad": "module_bad"}, {"module_bad.py": code}, **more)
    site.add("zzz-good", {"good": "module_good"}, {"module_good.py": GOOD})
    made = site.host()
    found = {plugin.name: plugin for plugin in made.plugins}
    assert found["bad"].status == "broken"
    assert found["good"].status == "loaded"
    assert made.get("loss", "good-loss") is ToyLoss
    return found["bad"].error


def test_provenance(site: Any) -> None:
    """A plugin carries the name and version of its distribution, and the sorted names of what it supplies."""
    site.add("some-losses", {"some": "module_some"}, {"module_some.py": GOOD}, version="2.7.1")
    plugin = site.host().owner("loss", "good-loss")
    assert (plugin.name, plugin.distribution, plugin.version, plugin.status) == ("some", "some-losses", "2.7.1", "loaded")
    assert plugin.parts == {"loss": ["good-loss"]}
    assert plugin.origin == "some-losses 2.7.1"


def test_installed_plugins_are_found(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without arguments the host loads what is installed, and DPOFRAME_DISABLE_PLUGINS sets aside what it names."""
    site.add("seen", {"seen-plugin": "module_seen"}, {"module_seen.py": GOOD})
    assert "good-loss" in PluginHost().names("loss")
    monkeypatch.setenv("DPOFRAME_DISABLE_PLUGINS", "other, seen-plugin")
    made = PluginHost()
    assert "good-loss" not in made.names("loss")
    assert {plugin.name: plugin.status for plugin in made.plugins}["seen-plugin"] == "disabled"


def test_an_unknown_data_set() -> None:
    """A name that nobody supplies is told in the words of the field."""
    with pytest.raises(UnknownNameError, match=r"No data set is called 'jsnl'\. Did you mean 'jsonl'\? Installed data sets: "):
        PluginHost([], []).get("dataset", "jsnl")


def test_disabled_plugins_are_not_imported(site: Any) -> None:
    """A plugin set aside, by its name or its distribution's, is listed but its code never runs."""
    site.add("nice-dist", {"nice": "module_nice"}, {"module_nice.py": "raise SystemExit('imported')"})
    for name in ("nice", "nice-dist"):
        assert [plugin.status for plugin in site.host([name]).plugins[1:]] == ["disabled"]


def test_import_error_is_set_aside(site: Any) -> None:
    """A plugin that raises while it is imported is listed with the exception."""
    assert "ZeroDivisionError: division by zero" in broken(site, "1 / 0")


def test_what_an_import_error_tells_holds_no_secret(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What plugins raise goes into lists, documents and files: passwords and tokens in it are masked."""
    monkeypatch.setenv("SERVICE_TOKEN", "planted-token-5512")
    told = broken(site, "raise RuntimeError('no https://me:planted-word-99@host with planted-token-5512')")
    assert told.endswith("RuntimeError: no https://***@host with ***")


def test_system_exit_is_set_aside(site: Any) -> None:
    """A plugin that ends the process, or raises a bare BaseException, does not end dpoframe."""
    assert "SystemExit: 3" in broken(site, "import sys; sys.exit(3)")


def test_bare_base_exception_is_set_aside(site: Any) -> None:
    """What derives from BaseException alone is caught as well."""
    assert "Panic" in broken(site, "class Panic(BaseException): pass\nraise Panic")


def test_keyboard_interrupt_passes(site: Any) -> None:
    """Ctrl-C during an import stops the program."""
    site.add("slow", {"slow": "module_slow"}, {"module_slow.py": "raise KeyboardInterrupt"})
    with pytest.raises(KeyboardInterrupt):
        site.host()


def test_missing_module_gives_the_install_line(site: Any) -> None:
    """A plugin whose library is missing says which extra of its distribution brings it."""
    error = broken(site, "import nowhere_lib", requires=['nowhere-lib>=2; extra == "fast"'])
    assert 'pip install "aaa-bad[fast]"' in error


def test_syntax_error_is_set_aside(site: Any) -> None:
    """A plugin that cannot be parsed is listed with the file and line."""
    assert "module_bad.py, line 1" in broken(site, "def (:")


def test_missing_attribute_is_set_aside(site: Any) -> None:
    """An entry point to an object that does not exist is a fault of that plugin alone."""
    site.add("gone", {"gone": "module_gone:plugin"}, {"module_gone.py": ""})
    assert "no attribute 'plugin'" in site.host().plugins[1].error


def test_wrong_hook_arguments(site: Any) -> None:
    """A hook with an argument that does not exist names the argument and those that do."""
    code = "from dpoframe import hookimpl\n@hookimpl\ndef dpoframe_configure(recipe): pass\n"
    assert broken(site, code) == "dpoframe_configure takes config; it was written with recipe."


def test_unknown_hook_suggests_the_nearest(site: Any) -> None:
    """A function that looks like a hook but is none is a fault with the nearest hook."""
    code = "from dpoframe import hookimpl\n@hookimpl\ndef dpoframe_modality(): return {}\n"
    assert "dpoframe_modality is no hook of dpoframe. Did you mean dpoframe_modalities?" in broken(site, code)


def test_unmarked_hook_is_a_fault(site: Any) -> None:
    """A hook without the marker would never be called, so it is a fault."""
    assert "is not marked with @dpoframe.hookimpl" in broken(site, "def dpoframe_losses(): return {}")


def test_hook_that_returns_no_mapping(site: Any) -> None:
    """A hook that returns something else than a mapping is named with what it returned."""
    code = "from dpoframe import hookimpl\n@hookimpl\ndef dpoframe_losses(): return ['a']\n"
    assert "dpoframe_losses must return a mapping" in broken(site, code)


def test_hook_that_raises(site: Any) -> None:
    """A hook that raises is named with the exception, and all faults are reported at once."""
    code = """
    from dpoframe import hookimpl
    @hookimpl
    def dpoframe_losses(): raise RuntimeError("no")
    @hookimpl
    def dpoframe_modalities(): return {"m": int, "n": "not a target", "./n.py": "a:B"}
    """
    error = broken(site, code)
    assert "dpoframe_losses raised RuntimeError: no" in error
    assert "'m' must be a subclass of dpoframe.Modality, but is the class builtins.int" in error
    assert "a target is written 'package.module:Name'" in error
    assert "the name './n.py' must be" in error


def test_printing_while_loading_goes_to_stderr(site: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """What a plugin prints at import never reaches stdout, which belongs to the command's document."""
    site.add("loud", {"loud": "module_loud"}, {"module_loud.py": "print('hello there')"})
    site.host()
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "hello there\n")


def test_name_clash(site: Any) -> None:
    """A name that two plugins supply is listed once; asking for it names both and how to choose; the rest works."""
    other = GOOD.replace('"good-loss": ToyLoss', '"good-loss": ToyLoss, "mine": ToyLoss')
    site.add("one-dist", {"one": "module_one"}, {"module_one.py": GOOD})
    site.add("two-dist", {"two": "module_two"}, {"module_two.py": other}, version="3.1")
    made = site.host()
    assert made.names("loss").count("good-loss") == 1
    assert [plugin.name for plugin in made.clashes()["loss", "good-loss"]] == ["one", "two"]
    with pytest.raises(PluginError) as caught:
        made.get("loss", "good-loss")
    for part in ("'one' (one-dist 1.0)", "'two' (two-dist 3.1)", "DPOFRAME_DISABLE_PLUGINS=two"):
        assert part in str(caught.value)
    assert made.get("loss", "mine") is ToyLoss
    assert site.host(["two"]).get("loss", "good-loss") is ToyLoss


def test_clash_with_the_core(site: Any) -> None:
    """A plugin cannot quietly take the place of one of the core's own parts."""
    site.add("taker", {"taker": "module_taker"}, {"module_taker.py": GOOD.replace("good-loss", "sigmoid")})
    with pytest.raises(PluginError, match=r"'builtin' .*DPOFRAME_DISABLE_PLUGINS=taker"):
        site.host().get("loss", "sigmoid")


def test_two_plugins_of_one_name(site: Any) -> None:
    """Plugins that share a name are both set aside, each naming the distributions; one can be chosen by disabling the other."""
    site.add("first", {"same": "module_first"}, {"module_first.py": GOOD})
    site.add("second", {"same": "module_second"}, {"module_second.py": GOOD})
    assert [plugin.status for plugin in site.host().plugins[1:]] == ["broken", "broken"]
    assert "first, second" in site.host().plugins[1].error
    assert site.host(["second"]).owner("loss", "good-loss").distribution == "first"


def test_reserved_name(site: Any) -> None:
    """No plugin can call itself `builtin`."""
    site.add("sly", {"builtin": "module_sly"}, {"module_sly.py": GOOD})
    assert "dpoframe's own" in site.host().plugins[1].error


def test_one_module_named_twice(site: Any) -> None:
    """Two entry points to one module are one plugin; the second is a fault that says so."""
    site.add("twice", {"a": "module_twice", "b": "module_twice"}, {"module_twice.py": GOOD})
    assert [plugin.status for plugin in site.host().plugins[1:]] == ["loaded", "broken"]
    assert "same object as the plugin 'a'" in site.host().plugins[2].error


def lazy(site: Any, target: str, files: dict[str, str], **more: Any) -> PluginHost:
    """A host with a plugin whose loss `late` is the lazy `target`."""
    code = f"from dpoframe import hookimpl\n@hookimpl\ndef dpoframe_losses(): return {{'late': '{target}'}}\n"
    site.add("late-dist", {"late": "module_late"}, {"module_late.py": code, **files}, **more)
    made = site.host()
    assert made.plugins[1].status == "loaded"
    return made


def test_lazy_target(site: Any) -> None:
    """A "module:Name" target is imported when it is asked for, not before."""
    made = lazy(site, "module_parts:Late", {"module_parts.py": "from dpoframe.testing.toy import ToyLoss as Late"})
    assert "late" in made.names("loss")
    assert made.get("loss", "late") is ToyLoss


@pytest.mark.parametrize(
    ("target", "code", "said"),
    [
        ("module_absent:Late", "", "No module named 'module_absent'"),
        ("module_parts:Late", "Latte = 1", "module_parts has no 'Late'"),
        ("module_parts:Late", "Late = 1", "must be a subclass of dpoframe.Loss, but is 1 (int)"),
        ("module_parts:Late", "from dpoframe import Loss\nclass Late(Loss): pass", "leaves __call__ unwritten"),
        (
            "module_parts:Late",
            "from dpoframe import Loss\nclass Late(Loss):\n  beta: float = 1.0\n  def __call__(self, scores): ...",
            "lacks the decorator @dataclass",
        ),
        ("module_parts:Late", "raise SystemExit", "SystemExit"),
    ],
)
def test_lazy_target_that_fails(site: Any, target: str, code: str, said: str) -> None:
    """A target that cannot be had is a PluginError with the part, the plugin, its distribution and the reason."""
    made = lazy(site, target, {"module_parts.py": code})
    with pytest.raises(PluginError) as caught:
        made.get("loss", "late")
    assert said in str(caught.value)
    assert "'late' of the plugin 'late' (late-dist 1.0)" in str(caught.value)


def test_lazy_target_without_its_library(site: Any) -> None:
    """A target whose library is missing is an error of the machine, with the exact install line."""
    made = lazy(site, "module_parts:Late", {"module_parts.py": "import sklearn_absent"}, requires=["sklearn_absent>=1.2"])
    with pytest.raises(MissingExtraError) as caught:
        made.get("loss", "late")
    assert caught.value.install == 'pip install "sklearn_absent>=1.2"'
    assert caught.value.exit_code == 3


def test_unknown_name(site: Any) -> None:
    """An unknown name lists what there is, suggests the nearest, and repeats the errors of broken plugins."""
    site.add("good-dist", {"good": "module_good"}, {"module_good.py": GOOD})
    site.add("bad-dist", {"bad": "module_bad"}, {"module_bad.py": "1 / 0"})
    with pytest.raises(UnknownNameError) as caught:
        site.host().get("loss", "god-loss")
    said = ("No loss is called 'god-loss'", "Did you mean 'good-loss'?", "sigmoid", "'bad' (bad-dist 1.0) is broken", "division")
    for part in said:
        assert part in str(caught.value)


def test_unknown_kind(isolated_host: PluginHost) -> None:
    """A kind that does not exist is a programming error with the nearest kind."""
    with pytest.raises(ValueError, match="Did you mean 'modality'"):
        isolated_host.names("modalities")


def test_files_of_suites_and_recipes(site: Any, tmp_path: Path) -> None:
    """A recipe's name gives its path; a path stands for itself; a path that does not exist is an error."""
    code = "from pathlib import Path\nfrom dpoframe import hookimpl\n@hookimpl\n"
    code += "def dpoframe_recipes(): return {'here': Path(__file__).with_name('here.yaml'), 'gone': Path('gone.yaml')}\n"
    site.add("files", {"files": "module_files"}, {"module_files.py": code, "here.yaml": "seed: 0"})
    made = site.host()
    assert made.get("recipe", "here").read_text() == "seed: 0"
    assert made.get("recipe", str(site.folder / "here.yaml")) == site.folder / "here.yaml"
    with pytest.raises(PluginError, match=r"gone\.yaml, which does not exist"):
        made.get("recipe", "gone")
    with pytest.raises(Exception, match="There is no recipe file"):
        made.get("recipe", str(tmp_path / "none.yaml"))


def test_relay_asks_only_the_named(isolated_host: PluginHost) -> None:
    """Run hooks reach the named plugins and the core, in the order named, and say which plugin gave what."""
    for name in ("a", "b", "c"):
        isolated_host.register(counting(name), name)
    relay = isolated_host.relay(["c", "a"])
    assert [plugin.name for plugin in relay.plugins] == ["c", "a", "builtin"]
    found = dict(relay.each("dpoframe_pair_metrics", scores=None, losses=None, stage="train", step=3))
    assert found == {"c": {"c": 3}, "a": {"a": 3}}
    assert relay.dpoframe_reference(modality=None, policy=None, config=None) == "c"


def test_relay_of_unknown_and_broken_plugins(site: Any) -> None:
    """Naming a plugin that is not there suggests the nearest; naming one set aside repeats its error."""
    site.add("bad-dist", {"bad": "module_bad"}, {"module_bad.py": "1 / 0"})
    with pytest.raises(UnknownNameError, match="Did you mean 'bad'"):
        site.host().relay(["bat"])
    with pytest.raises(PluginError, match=r"'bad' .* is broken: .*division by zero"):
        site.host().relay(["bad"])
    with pytest.raises(PluginError, match="is disabled: set aside by DPOFRAME_DISABLE_PLUGINS"):
        site.host(["bad"]).relay(["bad"])


def test_relay_names_the_plugin_that_raises(isolated_host: PluginHost) -> None:
    """An exception from a run hook becomes a PluginError that names the plugin and the hook."""

    class Failing:
        @hookimpl
        def dpoframe_callbacks(self, config: Any) -> Any:
            raise OSError("no such thing")

    isolated_host.register(Failing(), "failing")
    with pytest.raises(PluginError, match=r"dpoframe_callbacks of the plugin 'failing'.*OSError: no such thing"):
        list(isolated_host.relay(["failing"]).each("dpoframe_callbacks", config=None))


def counting(name: str) -> Any:
    """A plugin object that answers two run hooks with its name."""

    class Answering:
        @hookimpl
        def dpoframe_pair_metrics(self, step: int) -> Any:
            return {name: step}

        @hookimpl
        def dpoframe_reference(self) -> Any:
            return name

    return Answering()


def test_register_refuses_what_is_broken(isolated_host: PluginHost) -> None:
    """Registering by hand a broken plugin, or a taken name, is an error at once."""

    class Wrong:
        @hookimpl
        def dpoframe_losses(self) -> Any:
            return 1

    with pytest.raises(PluginError, match="must return a mapping"):
        isolated_host.register(Wrong(), "wrong")
    with pytest.raises(PluginError, match="there already"):
        isolated_host.register(counting("x"), "builtin")


def test_process_host() -> None:
    """`host()` is made once; `using` puts another in its place for a while."""
    first, other = host(), PluginHost([], [])
    assert host() is first
    with using(other):
        assert host() is other
    assert host() is first


def test_builtin_parts_can_be_had(isolated_host: PluginHost) -> None:
    """Every part the core itself registers resolves, but for those whose library is not installed."""
    for kind in KINDS:
        for name in isolated_host.names(kind):
            assert isolated_host.owner(kind, name).name == "builtin"
            with contextlib.suppress(MissingExtraError):
                assert isolated_host.get(kind, name) is not None


def test_unreadable_metadata_of_a_stranger(site: Any) -> None:
    """A distribution whose entry points cannot be parsed does not hide the others."""
    site.add("good-dist", {"good-plugin": "module_good"}, {"module_good.py": GOOD})
    site.add("odd-dist", {}, {})
    (site.folder / "odd_dist-1.0.dist-info" / "entry_points.txt").write_bytes(b"[dpoframe\nno equals sign\n\xff\xfe")
    assert "good-plugin" in [plugin.name for plugin in PluginHost().plugins]


def test_toy_is_a_plugin(isolated_host: PluginHost) -> None:
    """The toy module registers as a plugin like any other."""
    import dpoframe.testing.toy

    isolated_host.register(dpoframe.testing.toy, "toy")
    assert isolated_host.get("modality", "toy") is ToyModality
