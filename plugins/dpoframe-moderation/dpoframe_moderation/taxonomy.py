"""What a text may be unsafe for."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from dpoframe import ConfigError
from dpoframe_moderation.bare import likeness

OVERALL = "overall"
"""The category of the verdict as a whole: a text is unsafe or it is not."""
_OVERALL_WORDS = "unsafe"
_BETWEEN = re.compile(r"[^\w]|_|\band\b")


@dataclass(frozen=True)
class Taxonomy:
    """Categories in the order in which they are told.

    Attributes:
        name: What recipes call it.
        categories: For each key (of a column, a metric) the words that a moderator reads and writes. None of them is called
            `overall`.
        exclusive: Whether a text is of one category at most.
    """

    name: str
    categories: Mapping[str, str] = field(default_factory=dict)
    exclusive: bool = False

    def __post_init__(self) -> None:
        for key, words in self.categories.items():
            if key == OVERALL or not plain(words) or plain(words) in ("safe", "unsafe", "not"):
                raise ConfigError(f"The taxonomy {self.name!r} calls a category {key!r} ({words!r}), which is taken.")
        if len({plain(words) for words in self.categories.values()}) < len(self.categories):
            raise ConfigError(f"The taxonomy {self.name!r} has two categories of the same words: {dict(self.categories)}.")

    def words(self, key: str) -> str:
        """What a category is called in prompts and answers; `unsafe` for the verdict as a whole."""
        return _OVERALL_WORDS if key == OVERALL else self.categories[key]

    def key(self, words: str) -> str | None:
        """The category of these words, or of this key, however spelt; None where there is none."""
        return self._keys.get(plain(words))

    def ordered(self, keys: object) -> tuple[str, ...]:
        """Those of the categories that are in `keys`, in the order of the taxonomy."""
        return tuple(key for key in self.categories if key in keys)  # type: ignore[operator]

    @cached_property
    def _keys(self) -> Mapping[str, str]:
        return {plain(key): key for key in self.categories} | {plain(words): key for key, words in self.categories.items()}


def plain(words: str) -> str:
    """Words without case, punctuation and `and`: `Self-Harm` is `self harm`."""
    return " ".join(_BETWEEN.sub(" ", likeness(words)).split())


def taxonomy(name: str) -> Taxonomy:
    """The taxonomy of this name.

    Raises:
        ConfigError: Nobody knows it.
    """
    if name not in TAXONOMIES:
        near = difflib.get_close_matches(name, TAXONOMIES, 1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"There is no taxonomy {name!r}. {hint}There are: {', '.join(TAXONOMIES)}.")
    return TAXONOMIES[name]


_BEAVERTAILS = {
    "animal_abuse": "animal abuse",
    "child_abuse": "child abuse",
    "controversial_topics,politics": "controversial topics, politics",
    "discrimination,stereotype,injustice": "discrimination, stereotype, injustice",
    "drug_abuse,weapons,banned_substance": "drug abuse, weapons, banned substance",
    "financial_crime,property_crime,theft": "financial crime, property crime, theft",
    "hate_speech,offensive_language": "hate speech, offensive language",
    "misinformation_regarding_ethics,laws_and_safety": "misinformation regarding ethics, laws and safety",
    "non_violent_unethical_behavior": "non-violent unethical behavior",
    "privacy_violation": "privacy violation",
    "self_harm": "self-harm",
    "sexually_explicit,adult_content": "sexually explicit, adult content",
    "terrorism,organized_crime": "terrorism, organized crime",
    "violence,aiding_and_abetting,incitement": "violence, aiding and abetting, incitement",
}

_SAFERLHF = (
    "Endangering National Security", "Insulting Behavior", "Discriminatory Behavior", "Endangering Public Health",
    "Copyright Issues", "Violence", "Drugs", "Privacy Violation", "Economic Crime", "Mental Manipulation", "Human Trafficking",
    "Physical Harm", "Sexual Content", "Cybercrime", "Disrupting Public Order", "Environmental Damage", "Psychological Harm",
    "White-Collar Crime", "Animal Abuse",
)  # fmt: skip

_AEGIS = (
    "Hate/Identity Hate", "Sexual", "Violence", "Suicide and Self Harm", "Threat", "Sexual (minor)", "Guns and Illegal Weapons",
    "Controlled/Regulated Substances", "Criminal Planning/Confessions", "PII/Privacy", "Harassment", "Profanity", "Other",
    "Needs Caution", "Manipulation", "Fraud/Deception", "Malware", "High Risk Gov Decision Making",
    "Political/Misinformation/Conspiracy", "Copyright/Trademark/Plagiarism", "Unauthorized Advice", "Illegal Activity",
    "Immoral/Unethical",
)  # fmt: skip


def _spelt(names: tuple[str, ...]) -> dict[str, str]:
    """Published names, each the key and, in lower case, the words."""
    return {plain(name).replace(" ", "_"): name.lower() for name in names}


TAXONOMIES: Mapping[str, Taxonomy] = {
    one.name: one
    for one in (
        # Markov et al. 2022, "A Holistic Approach to Undesired Content Detection in the Real World", table 1.
        Taxonomy(
            "openai",
            {
                "S": "sexual",
                "H": "hate",
                "V": "violence",
                "HR": "harassment",
                "SH": "self-harm",
                "S3": "sexual/minors",
                "H2": "hate/threatening",
                "V2": "violence/graphic",
            },
        ),
        # Röttger et al. 2024, "XSTest": prompts are safe or unsafe; what they are about is their group.
        Taxonomy("xstest"),
        # Röttger et al. 2021, "HateCheck".
        Taxonomy("hatecheck", {"hate": "hate"}),
        # Lin et al. 2023, "ToxicChat".
        Taxonomy("toxicchat", {"toxicity": "toxicity", "jailbreaking": "jailbreaking"}),
        # Ji et al. 2023, "BeaverTails", and Ji et al. 2024, "PKU-SafeRLHF".
        Taxonomy("beavertails", _BEAVERTAILS),
        Taxonomy("saferlhf", _spelt(_SAFERLHF)),
        # Ghosh et al. 2024 and 2025, "Aegis" 1.0 and 2.0: the categories of both.
        Taxonomy("aegis", _spelt(_AEGIS)),
        # Davidson et al. 2017, "Automated Hate Speech Detection and the Problem of Offensive Language".
        Taxonomy("davidson", {"hate": "hate", "offensive": "offensive language"}, exclusive=True),
    )
}
"""The taxonomies of the published data sets, by name."""
