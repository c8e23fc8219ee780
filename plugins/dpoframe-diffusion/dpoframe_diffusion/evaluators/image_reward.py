"""ImageReward: a reward for a picture given its prompt, learned from people's rankings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dpoframe import Available, EvaluatorSpec, Refused, Sample, Scale
from dpoframe_diffusion.evaluators.base import LIMIT, PictureEvaluator, SpecOf
from dpoframe_diffusion.evaluators.image_reward_model import loaded
from dpoframe_diffusion.evaluators.picture import picture_of, words_of
from dpoframe_diffusion.evaluators.weights import Weights

FILE = "ImageReward.pt"


@dataclass(frozen=True)
class ImageReward(PictureEvaluator):
    """The reward of Xu et al. 2023, arXiv 2304.05977: about 0 on average over their data, with a spread of about 1.

    BLIP reads the prompt while it looks at the picture, and a head turns the first token into a number r; the reward is
    (r - 0.16717) / 1.03334. Prompts are cut at 35 tokens, as in training: what a longer one says further on is not judged.
    Only pictures of one prompt compare.

    Attributes:
        weights: The file ImageReward.pt, or the hub's repository that holds it.
        tokenizer: A folder or name with the vocabulary of bert-base-uncased.
    """

    weights: str = "THUDM/ImageReward"
    tokenizer: str = "google-bert/bert-base-uncased"

    spec: ClassVar[EvaluatorSpec] = SpecOf(  # type: ignore[assignment]
        EvaluatorSpec("image_reward", "1", "response", {"reward": Scale(None, None, "reward")}, "reward", limit=LIMIT)
    )

    def name(self) -> str:
        """The published weights' version."""
        return "image_reward:v1.0"

    @property
    def _file(self) -> Weights:
        return Weights(self.weights, file=Path(self.weights).name if self.weights.endswith(".pt") else FILE)

    @property
    def _vocabulary(self) -> Weights:
        return Weights(self.tokenizer, beside=True)

    def wanted(self) -> Sequence[Weights]:
        """The weights, and the vocabulary."""
        return (self._file, self._vocabulary)

    def suited(self) -> Available | Refused:
        """Whether the vocabulary is BERT's."""
        kind = self._vocabulary.settings().get("model_type")
        if kind != "bert":
            return Refused(f"{self.tokenizer} is of type {kind!r}, expected 'bert'", "Name bert-base-uncased or its folder.")
        if not any((self._vocabulary.path() / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
            return Refused(f"{self.tokenizer} holds neither tokenizer.json nor vocab.txt", "Copy them from bert-base-uncased.")
        return Available()

    def score(self, sample: Sample) -> Mapping[str, float]:
        """The reward of one picture."""
        image, words = picture_of(sample), words_of(sample)
        return {"reward": loaded(self._file.path(), self._vocabulary.path()).reward(image, words)}
