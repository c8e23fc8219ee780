"""Evaluations, pictures and plugins that come from elsewhere: compared, shown and called without harm."""

from __future__ import annotations

import http.server
import io
import json
import re
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dpoframe import ConfigError, MachineError, Media, PluginError, hookimpl
from dpoframe.harness.page import pieces
from dpoframe.harness.page.dimensions import is_bearable
from dpoframe.plugins import PluginHost

SCORES = {"right": {f"p{number}#0": float(number % 2) for number in range(12)}}
HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(1)>\x1b[2J\u202e=HYPERLINK("http://evil.example")'


@pytest.fixture
def two(ground: Any, evaluation: Any) -> dict[str, Path]:
    """Two evaluations of one suite."""
    other = {"right": dict.fromkeys(SCORES["right"], 1.0)}
    made = {"old": evaluation(ground.home / "old", SCORES), "new": evaluation(ground.home / "new", other)}
    for folder in made.values():
        about = json.loads((folder / "manifest.json").read_text())
        told = {"description": "", "evaluators": {"right": {**about["evaluators"]["right"], "about": "Right answers."}}}
        edited(folder, "manifest.json", **told)
    return made


def edited(folder: Path, name: str, **changes: Any) -> None:
    """Changes keys of a JSON file of an evaluation."""
    file = folder / name
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_plain_evaluations_are_compared(two: dict[str, Path], ended: Any) -> None:
    """The two folders are right themselves, so what follows is of the changes."""
    assert ended("compare", "old", "new").code == 0
    assert ended("report", "old", "new", "--out", "page.html").code == 0


def test_a_suite_that_a_manifest_names_runs_no_code(two: dict[str, Path], ground: Any, ended: Any) -> None:
    """A manifest may name a suite of its sender's, and that a Python file: neither compare nor report imports it; they say so."""
    ground.code("old/evil.py")
    ground.write("old/suite.yaml", {"name": "s", "version": 1, "prompts": ["p"], "evaluators": ["./evil.py:Evil"]})
    for folder in two.values():
        about = json.loads((folder / "manifest.json").read_text())
        spec = about["evaluators"]["right"]
        metrics = {**spec["metrics"], "right/whole": {**spec["metrics"]["right"], "name": "whole"}}
        changed = {"right": {**spec, "metrics": metrics, "aggregates": ["right/whole"]}}
        edited(folder, "manifest.json", suite_source="old/suite.yaml", evaluators=changed)
    said = ended("compare", "old", "new").said
    assert "The suite old/suite.yaml could not be loaded" in said
    assert ended("report", "old", "new", "--out", "page.html").code == 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("manifest.json", "[" * 100_000),
        ("manifest.json", "{}"),
        ("results.json", '{"metrics": 3}'),
        ("scores.jsonl", '{"evaluator": {"a": 1}}\n'),
        ("scores.jsonl", '{"id": ' + "[" * 100_000),
        ("manifest.json", "[1]"),
    ],
    ids=["manifest-deep", "manifest-empty", "results-odd", "scores-odd", "scores-deep", "manifest-list"],
)
@pytest.mark.parametrize("verb", ["compare", "report"])
def test_damaged_evaluations(name: str, content: str, verb: str, two: dict[str, Path], ended: Any) -> None:
    """A file of an evaluation that cannot be read is one message that names it, with 2, or with 3 where that says no verdict."""
    (two["old"] / name).write_text(content)
    found = ended(verb, "old", "new", *(["--out", "page.html"] if verb == "report" else []))
    assert found.code == {"compare": 3, "report": 2}[verb]
    assert name in found.said
    assert "internal error" not in found.said


@pytest.mark.parametrize("line", ["\x00\x1b[2J", '{"id": "p0#0", "prompt": ' + "[" * 100_000, '{"id": 3}', "[1, 2]", "null"])
@pytest.mark.parametrize("verb", ["compare", "report"])
def test_damaged_answers(line: str, verb: str, two: dict[str, Path], ended: Any) -> None:
    """A line of answers that is none is passed over or told of: no internal error, no escape sequence."""
    with (two["old"] / "samples.jsonl").open("a") as file:
        file.write(line + "\n")
    found = ended(verb, "old", "new", *(["--out", "page.html"] if verb == "report" else []))
    assert found.code in (0, 2, 3)
    assert "internal error" not in found.said


def test_names_and_texts_of_an_evaluation_are_shown_as_they_are(two: dict[str, Path], ground: Any, ended: Any) -> None:
    """Markup, formulas and escape sequences in a model's name, a suite's, a reason and an answer do nothing in page or terminal."""
    for folder in two.values():
        edited(folder, "manifest.json", model=HOSTILE, suite="chat", description=HOSTILE, base=HOSTILE)
        rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
        changed = [json.dumps({**row, "prompt": HOSTILE, "response": HOSTILE}) for row in rows]
        (folder / "samples.jsonl").write_text("\n".join(changed) + "\n")
    assert ended("compare", "old", "new", "--markdown", "page.md").code == 0
    assert ended("report", "old", "new", "--out", "page.html").code == 0
    page = (ground.home / "page.html").read_text()
    assert not re.search(r"<script|<img src=x|[\x00-\x08\x0e-\x1f\u202a-\u202e]", page)
    assert "default-src 'none'" in page
    assert not re.search(r"(?<!\\)<|\x1b|\u202e", (ground.home / "page.md").read_text())


def test_pictures_named_by_an_evaluation_stay_in_its_folder(two: dict[str, Path], ground: Any, ended: Any) -> None:
    """A sample that names a file elsewhere as its picture is shown as the words it is; nothing of the file is on the page."""
    ground.write("private.png", b"\x89PNG\r\n\x1a\nprivate-bytes")
    for name in ("../private.png", "blobs/../../private.png", str(ground.home / "private.png")):
        rows = [json.loads(line) for line in (two["new"] / "samples.jsonl").read_text().splitlines()]
        rows[0]["response"] = {"media": "image", "path": name}
        (two["new"] / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert ended("report", "new", "--out", "page.html").code == 0
        page = (ground.home / "page.html").read_text()
        assert "data:image" not in page
        assert "cHJpdmF0ZS1ieXRlc" not in page


def png(width: int, height: int) -> bytes:
    """A PNG of one colour, whatever it would unpack to: kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + bytes((width + 7) // 8)
    packer = zlib.compressobj(9)
    packed = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "picture",
    [
        png(12_000, 12_000),
        b"GIF89a" + struct.pack("<HH", 65_000, 65_000) + bytes(64),
        b"\xff\xd8\xff\xe0" + struct.pack(">H", 4) + b"ab\xff\xc2" + struct.pack(">HBHHB", 11, 8, 65_500, 65_500, 1) + bytes(64),
        b"RIFF" + bytes(4) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff\xff\x0f\xff\xff\x0f" + bytes(64),
        b"\x89PNG\r\n\x1a\n\0\0",
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    ],
    ids=["png", "gif", "jpeg", "webp", "cut-off", "svg"],
)
def test_a_picture_that_would_fill_the_memory_is_not_shown(picture: bytes, tmp_path: Path) -> None:
    """A file of kilobytes that unpacks to hundreds of megabytes goes into no page, and is not decoded; nor is what may run."""
    assert len(picture) < pieces.PICTURE
    (shown,) = pieces.Pieces(tmp_path).response(Media("image", data=picture))
    assert not shown.picture
    assert "no picture that a page can show" in shown.text


@pytest.mark.parametrize("form", ["PNG", "GIF", "JPEG", "WEBP"])
def test_pictures_of_usual_size_are_shown(form: str) -> None:
    """The size in a header is read rightly: pictures that Pillow wrote are bearable."""
    image = pytest.importorskip("PIL.Image")
    out = io.BytesIO()
    image.effect_noise((200, 150), 90).convert("RGB").save(out, form)
    assert is_bearable(out.getvalue())
    assert pieces.shrunk(out.getvalue()) == out.getvalue()


class Ending:
    """A plugin whose hook ends the program."""

    @hookimpl
    def dpoframe_configure(self, config: Any) -> None:
        """Exits as if all were done."""
        raise SystemExit(0)

    @hookimpl
    def dpoframe_commands(self, cli: Any) -> None:
        """Exits while verbs are collected."""
        raise SystemExit(0)


def test_a_hook_that_ends_the_program_does_not() -> None:
    """SystemExit in a hook is an error that names hook and plugin: no job seems done because a plugin said so."""
    host = PluginHost(entry_points=[])
    host.register(Ending(), "ending")
    with pytest.raises(PluginError, match=r"dpoframe_configure of the plugin 'ending' .*SystemExit: 0"):
        list(host.relay(["ending"]).each("dpoframe_configure", config=None))


def test_the_command_line_names_the_plugin_that_ends(ground: Any, ended: Any) -> None:
    """In training it ends with 2 and the plugin's name; where verbs are collected it is left out with a word."""
    ground.host.register(Ending(), "ending")
    found = ended("train", ground.recipe(plugins=["ending"]), "--out", "run")
    assert found.code == 2
    assert "The hook dpoframe_configure of the plugin 'ending'" in found.said
    assert not (ground.home / "run" / "recipe.yaml").exists()
    assert "the plugin 'ending' could not add its verbs: SystemExit" in ended("no-such-verb").said


def test_consent_is_not_a_models_to_give(ground: Any) -> None:
    """`trust_remote_code` in a model's record does not hold; given by whoever opens the model it does."""
    from dataclasses import dataclass

    from dpoframe.checkpoint.model import modality_of
    from dpoframe.testing import toy

    @dataclass(frozen=True)
    class Trusting(toy.ToyModality):
        trust_remote_code: bool = False

    class Parts:
        @hookimpl
        def dpoframe_modalities(self) -> dict[str, Any]:
            return {"trusting": Trusting}

    ground.host.register(Parts(), "trusting")
    ground.model(modality="trusting", fields={"trust_remote_code": True, "width": 5})
    folder = ground.home / "model"
    opened = modality_of(folder)
    assert (opened.trust_remote_code, opened.width) == (False, 5)
    assert modality_of(folder, {"trust_remote_code": True}).trust_remote_code


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Makes an endpoint on this machine: `answering(status, body)` gives a client of it, and the paths it was asked for."""
    from dpoframe.harness.backends.client import Client

    servers: list[http.server.HTTPServer] = []

    def serve(status: int, body: bytes = b"") -> tuple[Client, list[str]]:
        asked: list[str] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked.append(self.path)
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(status if self.path.startswith("/v1") else 200)
                self.send_header("Location", f"http://127.0.0.1:{server.server_port}/elsewhere")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *words: Any) -> None:
                """Nothing."""

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return Client(f"http://127.0.0.1:{server.server_port}/v1", "ENDPOINT_KEY", timeout=10, retries=0), asked

    monkeypatch.setenv("ENDPOINT_KEY", "endpoint-key-8812")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield serve
    for one in servers:
        one.shutdown()
        one.server_close()


def test_a_redirect_gets_no_key(answering: Callable[..., Any]) -> None:
    """An endpoint that sends the asker elsewhere is refused: the other place is not asked, and sees no key."""
    client, asked = answering(307)
    with pytest.raises(ConfigError, match=r"refuses the request \(307\)"):
        client.post("chat/completions", {})
    assert asked == ["/v1/chat/completions"]


@pytest.mark.parametrize("status", [200, 400])
def test_an_answer_nested_without_end(status: int, answering: Callable[..., Any]) -> None:
    """JSON that is nested too deeply to be read is no answer, or an error without words."""
    client, _ = answering(status, b'{"error": ' + b"[" * 100_000)
    with pytest.raises((ConfigError, MachineError), match=r"did not answer|refuses the request"):
        client.post("chat/completions", {})


def test_links_may_lead_where_the_user_says(ground: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link out of the data counts as inside where the environment names its target's folder; the hub's own always do."""
    from dpoframe import is_inside

    other, folder = ground.home / "disk", ground.home / "data"
    snapshot, blobs = ground.home / "datasets--a--b" / "snapshots" / "c0ffee", ground.home / "datasets--a--b" / "blobs"
    for place in (other, folder, snapshot, blobs):
        place.mkdir(parents=True)
    (other / "a.png").touch()
    (blobs / "ab12").touch()
    (folder / "plain.png").touch()
    (folder / "within.png").symlink_to("plain.png")
    (folder / "out.png").symlink_to(other / "a.png")
    (folder / "pictures").symlink_to(other)
    (snapshot / "x.png").symlink_to("../../blobs/ab12")
    (snapshot / "y.png").symlink_to(other / "a.png")
    assert is_inside(folder / "plain.png", folder)
    assert is_inside(folder / "within.png", folder)
    assert is_inside(snapshot / "x.png", snapshot)
    outward = [(folder / "out.png", folder), (folder / "pictures" / "a.png", folder), (snapshot / "y.png", snapshot)]
    assert not any(is_inside(*one) for one in outward)
    monkeypatch.setenv("DPOFRAME_MEDIA_ROOTS", str(other))
    assert all(is_inside(*one) for one in outward)


@pytest.mark.parametrize(
    "named", ["http://127.0.0.1:{port}/rows.jsonl", "{home}/private.jsonl", "../private.jsonl", "file://{home}/private.jsonl"]
)
@pytest.mark.parametrize("key", ["data_files", "data_dir"])
def test_a_card_names_no_files_elsewhere(key: str, named: str, ground: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The card of a folder of data that names an address, or a file outside: nothing is asked, nothing outside is read."""
    pytest.importorskip("datasets")
    from dpoframe import DataError
    from dpoframe.data.hub_rows import hub_rows

    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle(self) -> None:
            asked.append("a request")

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("HF_HOME", str(ground.home / "cache"))
    row = {"prompt": "p", "chosen": "c", "rejected": "r"}
    ground.write("private.jsonl", [row])
    ground.write("set/own.jsonl", [row])
    place = named.format(port=server.server_port, home=ground.home)
    card = f"---\nconfigs:\n- config_name: default\n  {key}: {json.dumps(place)}\n---\n"
    ground.write("set/README.md", card)
    try:
        with pytest.raises(DataError, match=r"its card names .* which is no file of its own"):
            list(hub_rows("set", None, "train", True, None))
    finally:
        server.shutdown()
        server.server_close()
    assert asked == []
    ground.write("set/README.md", card.replace(place, "own.jsonl").replace("data_dir", "data_files"))
    assert [raw.values for raw in hub_rows("set", None, "train", True, None)] == [row]
