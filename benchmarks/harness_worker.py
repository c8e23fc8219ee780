"""One run of `harness.py` in a process of its own. The sides that are no dpoframe import nothing of it."""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

BATCH = 16


def measured(job: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What a job returns, its wall and CPU seconds, and the process's peak memory in MiB after it."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = job()
    seconds, processor = time.perf_counter() - wall, time.process_time() - cpu
    return found, {"seconds": seconds, "cpu": processor, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def told(result: dict[str, float]) -> None:
    """Gives the result to the process that asked."""
    print("RESULT " + json.dumps(result))


def prepare(work: Path, model: str, count: str) -> None:
    """A folder with the model's weights, and prompts: what was asked in a chat, of unlike length."""
    from dpoframe_text.loading import Loader
    from transformers import AutoTokenizer

    source = Loader(model).source
    draw = random.Random(0)
    topics = ["rain", "a bicycle", "the moon", "bread", "a river", "chess", "sleep", "a magnet", "salt", "a violin", "glass", "tea"]
    asks = ["What is {}?", "Explain {} to a child.", "Write two sentences on {}.", "Why does {} matter?", "List three facts on {}."]
    tokenizer = AutoTokenizer.from_pretrained(source.where)
    rows = []
    for number in range(int(count)):
        text = asks[number % len(asks)].format(draw.choice(topics))
        text = " ".join([*(f"Consider {draw.choice(topics)} first." for _ in range(number % 6)), text])
        messages = [{"role": "user", "content": text}]
        rows.append(
            {"messages": messages, "text": tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)}
        )
    (work / "prompts.json").write_text(json.dumps({"model": source.where, "rows": rows}))
    told({})


def ours(work: Path, tokens: str, threads: str) -> None:
    """dpoframe: a whole suite."""
    import torch
    from dpoframe_text.modality import TextModality

    from dpoframe.builtin.response_length import ResponseLength
    from dpoframe.harness import EvalFolder, Subject, run_suite
    from dpoframe.harness.suites.suite import Prompt, Suite

    torch.set_num_threads(int(threads))
    given = json.loads((work / "prompts.json").read_text())
    prompts = tuple(Prompt(f"p{number}", row["messages"]) for number, row in enumerate(given["rows"]))
    suite = Suite("speed", "1", "", prompts, (), {"max_new_tokens": int(tokens), "temperature": 0}, 1, 0, (ResponseLength(),))
    modality = TextModality(model=given["model"], generation_batch=BATCH)
    model = modality.build().eval()
    out = work / f"out-{time.time_ns()}"
    # What is imported or set up on first use is no part of anyone's speed; the digest of the weights is part of ours.
    run_suite(Subject("model", modality, model), replace(suite.limited(1), generation={"max_new_tokens": 2}), work / "warm")
    subject = Subject("model", modality, model)
    _, result = measured(lambda: run_suite(subject, suite, out))
    rows = EvalFolder(out).samples()
    finish(work, "dpoframe", [row.response for row in rows], sum(row.detail["length"] for row in rows), result)


def finish(work: Path, side: str, texts: list[str], tokens: float, result: dict[str, float]) -> None:
    """Writes the texts for comparison, and the speed."""
    (work / f"{side}.json").write_text(json.dumps([text.strip() for text in texts]))
    told({**result, "speed": tokens / result["seconds"], "cpu_speed": tokens / result["cpu"], "tokens": tokens})


def plain(work: Path, tokens: str, threads: str) -> None:
    """`model.generate`, one prompt after the other."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(int(threads))
    given = json.loads((work / "prompts.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(given["model"])
    model = AutoModelForCausalLM.from_pretrained(given["model"], dtype=torch.float32).eval()

    def loop(rows: list[Any], limit: int) -> list[list[int]]:
        written = []
        for row in rows:
            ids = tokenizer(row["text"], return_tensors="pt", add_special_tokens=False)
            with torch.no_grad():
                found = model.generate(**ids, max_new_tokens=limit, do_sample=False, pad_token_id=tokenizer.eos_token_id)
            written.append(found[0, ids["input_ids"].shape[1] :].tolist())
        return written

    loop(given["rows"][:1], 2)
    written, result = measured(lambda: loop(given["rows"], int(tokens)))
    texts = [tokenizer.decode(row, skip_special_tokens=True) for row in written]
    finish(work, "plain-loop", texts, sum(map(len, written)), result)


def lm_eval(work: Path, tokens: str, threads: str) -> None:
    """`generate_until` of lm-evaluation-harness, with the same batches."""
    import torch
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(int(threads))
    given = json.loads((work / "prompts.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(given["model"])
    weights = AutoModelForCausalLM.from_pretrained(given["model"], dtype=torch.float32).eval()
    model = HFLM(pretrained=weights, tokenizer=tokenizer, batch_size=BATCH, device="cpu")

    def asked(rows: list[Any], limit: int) -> list[Any]:
        settings = {"until": [tokenizer.eos_token], "max_gen_toks": limit, "do_sample": False}
        return [Instance("generate_until", {}, (row["text"], dict(settings)), number) for number, row in enumerate(rows)]

    model.generate_until(asked(given["rows"][:1], 2), disable_tqdm=True)
    texts, result = measured(lambda: model.generate_until(asked(given["rows"], int(tokens)), disable_tqdm=True))
    counts = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    finish(work, "lm-eval", texts, sum(min(count + 1, int(tokens)) for count in counts), result)


def canned(count: int) -> Any:
    """A subject that answers at once, and the suite that asks it."""
    from dpoframe import Sample
    from dpoframe.builtin.distinct_n import DistinctN
    from dpoframe.builtin.response_length import ResponseLength
    from dpoframe.harness import Subject
    from dpoframe.harness.suites.suite import Prompt, Suite
    from dpoframe.testing.toy import ToyModality

    words = [f"word{number}" for number in range(2000)]

    @dataclass(frozen=True)
    class Canned(ToyModality):
        """Answers of 20 to 120 words drawn at random."""

        def generate(self, model: Any, requests: Sequence[Any]) -> Iterator[Sample]:
            for one in requests:
                draw = random.Random(one.seed)
                text = " ".join(draw.choices(words, k=draw.randint(20, 120)))
                yield Sample(one.id, one.prompt, text, True, {"length": float(len(text) // 4)})

    modality = Canned()
    prompts = tuple(Prompt(f"p{number}", f"question number {number}", {"kind": "x"}) for number in range(count))
    suite = Suite("canned", "1", "", prompts, (), {}, 1, 0, (ResponseLength(), DistinctN()))
    return Subject("canned", modality, modality.build()), suite


def store(work: Path, count: str) -> None:
    """Makes the answers."""
    from dpoframe.harness import run_suite

    subject, suite = canned(int(count))
    _, result = measured(lambda: run_suite(subject, replace(suite, evaluators=()), work / "out"))
    told(result)


def score(work: Path, count: str) -> None:
    """Scores them."""
    import pyarrow.parquet  # noqa: F401 - what the harness loads is not the samples' memory
    import scipy.stats  # noqa: F401
    import torch  # noqa: F401

    from dpoframe.harness import run_suite

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    subject, suite = canned(int(count))
    found, result = measured(lambda: run_suite(subject, suite, work / "out"))
    assert found.metrics["response_length"].interval.n == int(count)
    told({**result, "before": before})


if __name__ == "__main__":
    sides: dict[str, Callable[..., None]] = {
        "prepare": prepare,
        "dpoframe": ours,
        "plain-loop": plain,
        "lm-eval": lm_eval,
        "store": store,
        "score": score,
    }
    sides[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
