"""What a moderator has to beat: TF-IDF and logistic regression, on the same split of the same labelled texts.

    python benchmarks/moderation_baseline.py openai_moderation=FILE --also xstest=FILE --also hatecheck=FILE --model RUN

Words (1 and 2 in a row) and characters (2 to 5, within words), of which the training part's cross-validation chooses one or both,
and C, and whether classes are weighed, category by category, by average precision. Thresholds are chosen by F1 on the validation
part, for the moderator as for the baseline. Without `--model` the baseline stands alone.

AUPRC is scikit-learn's average precision; intervals are percentiles of 2,000 bootstrap samples of texts, of the difference too,
where both are judged on the same texts each time.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from dpoframe_moderation import dpoframe_datasets
from numpy.typing import NDArray
from scipy.sparse import hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold

from dpoframe import PreferencePair, Request
from dpoframe.checkpoint.model import open_model

Array = NDArray[np.float64]
OVERALL = "overall"
STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
FEATURES = {"words": ("word",), "characters": ("char",), "both": ("word", "char")}
FOLDS = 5
LEAST = 5
"""Positive texts below which a category's figures are left out: they would be those of single texts."""


@dataclass
class Texts:
    """Texts with their labels: 1, 0, or NaN where nobody judged."""

    texts: list[str]
    labels: dict[str, Array]

    def known(self, label: str) -> NDArray[np.bool_]:
        """Which texts are judged on a label."""
        return ~np.isnan(self.labels[label])


@dataclass
class Judge:
    """Something that gives texts a probability a label.

    Attributes:
        name: What tables call it.
        scores: For texts and a label, the probabilities.
        thresholds: From which probability on a label applies; .5 unless chosen.
    """

    name: str
    scores: Callable[[Sequence[str], str], Array]
    thresholds: dict[str, float] = field(default_factory=dict)


def read(name: str, path: str, part: str) -> Texts:
    """The labelled texts of a data set's part, each once."""
    import importlib

    module, _, function = dpoframe_datasets()[name].partition(":")
    rows = getattr(importlib.import_module(module), function)(path=path, form="label", part=part)
    found: dict[str, dict[str, bool]] = {}
    for pair in rows:
        if isinstance(pair, PreferencePair):
            found.setdefault(str(pair.prompt), {})[pair.meta["category"]] = pair.meta["positive"]
    keys = list(dict.fromkeys(key for labels in found.values() for key in labels))
    columns = {key: np.array([float(labels[key]) if key in labels else np.nan for labels in found.values()]) for key in keys}
    return Texts(list(found), columns)


class Baseline:
    """TF-IDF features and a logistic regression a label."""

    def __init__(self, train: Texts) -> None:
        self.makers = {
            "word": TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=1, strip_accents="unicode"),
            "char": TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2),
        }
        parts = {name: maker.fit_transform(train.texts) for name, maker in self.makers.items()}
        self.models: dict[str, tuple[str, LogisticRegression]] = {}
        self.chosen: dict[str, str] = {}
        for label in train.labels:
            known = train.known(label)
            truth = train.labels[label][known]
            self._fit(label, {name: part[known] for name, part in parts.items()}, truth)

    def scores(self, texts: Sequence[str], label: str) -> Array:
        """Probability of a label of each text."""
        kind, model = self.models[label]
        rows = hstack([self.makers[name].transform(texts) for name in FEATURES[kind]]).tocsr()
        return np.asarray(model.predict_proba(rows)[:, 1])

    def _fit(self, label: str, parts: Mapping[str, Any], truth: Array) -> None:
        """Chooses by cross-validation, then fits all of the training part."""
        best = (-1.0, "", 1.0, "")
        folds = StratifiedKFold(min(FOLDS, int(truth.sum())), shuffle=True, random_state=0)
        for kind, names in FEATURES.items():
            rows = hstack([parts[name] for name in names]).tocsr()
            splits = list(folds.split(rows, truth))
            for strength in STRENGTHS:
                for weight in ("", "balanced"):
                    found = [
                        average_precision_score(
                            truth[held], _regression(strength, weight).fit(rows[kept], truth[kept]).decision_function(rows[held])
                        )
                        for kept, held in splits
                    ]
                    best = max(best, (float(np.mean(found)), kind, strength, weight))
        _, kind, strength, weight = best
        rows = hstack([parts[name] for name in FEATURES[kind]]).tocsr()
        self.models[label] = (kind, _regression(strength, weight).fit(rows, truth))
        self.chosen[label] = f"{kind}, C {strength:g}{', balanced' if weight else ''}, cross-validated AUPRC {best[0]:.3f}"


def _regression(strength: float, weight: str) -> LogisticRegression:
    return LogisticRegression(C=strength, class_weight=weight or None, solver="liblinear", max_iter=1000)


def moderator(run: str, words: Mapping[str, str]) -> Judge:
    """An aligned classifier: the probabilities that it tells with its answers, each text asked once."""
    modality, model = open_model(run)
    known: dict[str, Mapping[str, float]] = {}

    def scores(texts: Sequence[str], label: str) -> Array:
        missing = [Request(text, text) for text in texts if text not in known]
        known.update({sample.id: sample.detail for sample in modality.generate(model, missing)})
        return np.array([known[text][f"p/{words[label]}"] for text in texts])

    return Judge("moderator", scores)


def f1(truth: Array, said: NDArray[np.bool_]) -> float:
    """Harmonic mean of precision and recall; 0 without a hit."""
    hits = float((said & (truth == 1)).sum())
    total = float(said.sum() + truth.sum())
    return 2 * hits / total if total else 0.0


def choose_threshold(truth: Array, scores: Array) -> float:
    """Midway between the two scores around the best F1; .5 where no text has the label."""
    if not truth.any():
        return 0.5
    cuts = np.unique(scores)
    between = np.concatenate([(cuts[1:] + cuts[:-1]) / 2, [0.5]])
    return float(max(between, key=lambda cut: (f1(truth, scores >= cut), -abs(cut - 0.5))))


def figures(truth: Array, scores: Array, threshold: float) -> dict[str, float]:
    """What is measured of one judge on one label; `over_refusal` is the share of benign texts that it flags."""
    found = {"F1 at .5": f1(truth, scores >= 0.5), "F1": f1(truth, scores >= threshold)}
    if truth.any():
        found["AUPRC"] = float(average_precision_score(truth, scores))
    if not truth.all():
        benign = scores[truth == 0]
        found |= {"over_refusal at .5": float((benign >= 0.5).mean()), "over_refusal": float((benign >= threshold).mean())}
    return found


def resampled(truth: Array, resamples: int) -> Iterator[NDArray[np.int64]]:
    """Bootstrap samples of texts; those without both kinds of texts are drawn again."""
    draw = np.random.default_rng(0)
    given = 0
    while given < resamples:
        index = draw.integers(0, len(truth), len(truth))
        if 0 < truth[index].sum() < len(index):
            given += 1
            yield index


def interval(values: Sequence[float]) -> list[float]:
    """The middle 95 %."""
    return [round(float(edge), 4) for edge in np.percentile(values, [2.5, 97.5])]


def compared(judges: Sequence[Judge], texts: Texts, label: str, resamples: int) -> dict[str, Any]:
    """Figures of all judges on one label, with intervals, and of the last one minus the first."""
    known = texts.known(label)
    truth = texts.labels[label][known]
    asked = [text for text, judged in zip(texts.texts, known, strict=True) if judged]
    scores = [judge.scores(asked, label) for judge in judges]
    cuts = [judge.thresholds.get(label, 0.5) for judge in judges]
    rows = [
        [figures(truth[index], own[index], cut) for own, cut in zip(scores, cuts, strict=True)]
        for index in resampled(truth, resamples)
    ]
    made: dict[str, Any] = {"texts": len(truth), "positive": int(truth.sum())}
    for place, judge in enumerate(judges):
        own = figures(truth, scores[place], cuts[place])
        made[judge.name] = {
            name: {"value": round(value, 4), "interval": interval([row[place][name] for row in rows])}
            for name, value in own.items()
        } | {"threshold": round(cuts[place], 4)}
    if len(judges) > 1:
        first, last = (made[judge.name] for judge in (judges[0], judges[-1]))
        made["difference"] = {
            name: {
                "value": round(last[name]["value"] - first[name]["value"], 4),
                "interval": interval([row[-1][name] - row[0][name] for row in rows]),
            }
            for name in first
            if name != "threshold"
        }
    return made


def averaged(judges: Sequence[Judge], texts: Texts, labels: Sequence[str], resamples: int) -> dict[str, Any]:
    """The mean AUPRC over the categories, whole texts drawn anew: their labels stay together."""
    scores = {(judge.name, label): judge.scores(texts.texts, label) for judge in judges for label in labels}
    draw = np.random.default_rng(0)
    whole = np.arange(len(texts.texts))
    found: dict[str, list[float]] = {judge.name: [] for judge in judges}
    while len(found[judges[0].name]) <= resamples:
        # The first row is that of the texts as they are.
        index = draw.integers(0, len(whole), len(whole)) if found[judges[0].name] else whole
        kept = {label: index[texts.known(label)[index]] for label in labels}
        if all(texts.labels[label][rows].any() for label, rows in kept.items()):
            for judge in judges:
                areas = [
                    average_precision_score(texts.labels[label][rows], scores[judge.name, label][rows])
                    for label, rows in kept.items()
                ]
                found[judge.name].append(float(np.mean(areas)))
    if len(judges) > 1:
        found["difference"] = [last - first for first, last in zip(found[judges[0].name], found[judges[-1].name], strict=True)]
    told = {name: {"AUPRC": {"value": round(rows[0], 4), "interval": interval(rows[1:])}} for name, rows in found.items()}
    return {"texts": len(whole), "positive": "-", **told}


def table(name: str, results: Mapping[str, Any], judges: Sequence[str]) -> str:
    """One data set's figures in Markdown."""
    columns = [*judges, *(["difference"] if len(judges) > 1 else [])]
    lines = [
        f"\n{name}\n",
        f"| label | texts (positive) | figure | {' | '.join(columns)} |",
        "|---|---|---|" + "---|" * len(columns),
    ]
    for label, found in results.items():
        for figure in ("AUPRC", "F1", "F1 at .5", "over_refusal", "over_refusal at .5"):
            if figure in found[judges[0]]:
                cells = (found[column][figure] for column in columns)
                told = " | ".join(f"{cell['value']:.3f} [{cell['interval'][0]:.3f}, {cell['interval'][1]:.3f}]" for cell in cells)
                lines.append(f"| {label} | {found['texts']} ({found['positive']}) | {figure} | {told} |")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="NAME=FILE", help="the data set to train and test on")
    parser.add_argument("--also", metavar="NAME=FILE", action="append", default=[], help="a data set to test on as a whole")
    parser.add_argument("--model", help="the run folder of a classifier to compare")
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--out", type=Path, help="where the figures go as JSON")
    return parser.parse_args()


def main() -> None:
    """Trains the baseline, judges, and tells."""
    given = arguments()
    warnings.filterwarnings("ignore", message="'penalty' was deprecated", category=FutureWarning)
    name, _, path = given.data.partition("=")
    train, validation, test = (read(name, path, part) for part in ("train", "validation", "test"))
    baseline = Baseline(train)
    judges = [Judge("baseline", baseline.scores)]
    if given.model:
        from dpoframe_moderation.taxonomy import taxonomy

        known = taxonomy(name.removesuffix("_moderation"))
        judges.append(moderator(given.model, {label: known.words(label) for label in train.labels}))
    for judge in judges:
        for label in train.labels:
            held = validation.known(label)
            asked = [text for text, judged in zip(validation.texts, held, strict=True) if judged]
            judge.thresholds[label] = choose_threshold(validation.labels[label][held], judge.scores(asked, label))
    sets = {f"{name}, part test": test}
    for one in given.also:
        other, _, file = one.partition("=")
        found = read(other, file, "all")
        sets[other] = Texts(found.texts, {OVERALL: found.labels[OVERALL]})
    results: dict[str, Any] = {"chosen": baseline.chosen}
    for title, texts in sets.items():
        labels = [label for label in texts.labels if (texts.labels[label] == 1).sum() >= LEAST]
        results[title] = {label: compared(judges, texts, label, given.resamples) for label in labels}
        categories = [label for label in labels if label != OVERALL]
        if categories:
            results[title]["mean of categories"] = averaged(judges, texts, categories, given.resamples)
        print(table(title, results[title], [judge.name for judge in judges]))
    print("\n" + "\n".join(f"baseline, {label}: {told}" for label, told in baseline.chosen.items()))
    if given.out:
        given.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
