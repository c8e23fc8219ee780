"""Every loss that TRL has, against values that TRL 1.16.0's own code gave.

The numbers are what `DPOTrainer._compute_loss`, `CPOTrainer.cpo_loss`, `ORPOTrainer.odds_ratio_loss` and
`KTOTrainer._compute_loss` of TRL 1.16.0 (torch 2.13, CPU, float64; float32 for alpha_divergence) return for the token
log-probabilities below, with beta = 0.4 unless another is named.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dpoframe import PairScores, losses, metrics

POLICY_CHOSEN = [[-1.1, -0.4, -2.3], [-0.7, -1.9], [-0.2, -0.9, -1.3, -0.6]]
POLICY_REJECTED = [[-1.6, -0.8], [-0.5, -2.2, -1.4, -0.1], [-3.1]]
REFERENCE_CHOSEN = [[-1.3, -0.9, -2.0], [-0.6, -1.2], [-0.8, -1.0, -1.1, -0.9]]
REFERENCE_REJECTED = [[-1.2, -0.7], [-0.9, -1.8, -1.0, -0.3], [-2.5]]
# log of the sum over the vocabulary of squared probabilities, at each token
SQUARES_CHOSEN = [[-0.9, -0.3, -1.2], [-0.8, -1.0], [-0.1, -0.5, -0.9, -0.7]]
SQUARES_REJECTED = [[-1.0, -0.6], [-0.4, -1.5, -0.9, -0.2], [-1.7]]
SHARED = [2, 2, 1]  # the shorter response of each pair

SIDES = {
    "policy_chosen": POLICY_CHOSEN,
    "policy_rejected": POLICY_REJECTED,
    "reference_chosen": REFERENCE_CHOSEN,
    "reference_rejected": REFERENCE_REJECTED,
}


def trl_scores(detail: dict[str, Any] | None = None, dtype: torch.dtype = torch.float64) -> PairScores:
    """The token log-probabilities above, summed, with the details that the modifiers read."""
    details = {f"{side}/shared": [sum(row[:m]) for row, m in zip(rows, SHARED, strict=True)] for side, rows in SIDES.items()}
    for side, rows, squares in (
        ("policy_chosen", POLICY_CHOSEN, SQUARES_CHOSEN),
        ("policy_rejected", POLICY_REJECTED, SQUARES_REJECTED),
    ):
        details[f"{side}/wpo"] = [(sum(row) - sum(other)) / len(row) for row, other in zip(rows, squares, strict=True)]
    return PairScores(
        **{side: torch.tensor([sum(row) for row in rows], dtype=dtype) for side, rows in SIDES.items()},
        chosen_length=torch.tensor([len(row) for row in POLICY_CHOSEN]),
        rejected_length=torch.tensor([len(row) for row in POLICY_REJECTED]),
        detail={name: torch.tensor(value, dtype=dtype) for name, value in {**details, **(detail or {})}.items()},
    )


def mean_loss(name: str, detail: dict[str, Any] | None = None, **fields: Any) -> float:
    """The mean loss over the three pairs."""
    loss = losses.create(name, **fields) if name == "sft" else losses.create(name, **{"beta": 0.4, **fields})
    return loss(trl_scores(detail)).mean().item()


# name, fields: plain, with use_weighting (WPO), with ld_alpha = 0.3
DPO = [
    ("sigmoid", {}, 0.6004786143336721, 0.2403548857980402, 0.6067391745059921),
    ("hinge", {}, 0.7733333333333333, 0.3245414969015175, 0.7826666666666665),
    ("ipo", {}, 1.1712037037037037, 0.542624088988075, 1.1810425925925923),
    ("nca_pair", {}, 1.3461341242547131, 0.5106904006942837, 1.3484301995109513),
    ("robust", {}, 0.6004786143336721, 0.2403548857980402, 0.6067391745059921),
    ("sppo_hard", {}, 2.405, 1.1002402014845811, 2.453766666666666),
    ("apo_zero", {}, 0.9435160429030605, 0.36083326880823036, 0.9458194729790854),
    ("apo_down", {}, 0.9580451864941758, 0.35896997434314565, 0.9626159982203296),
    ("discopop", {}, 0.6975895803959028, 0.27257735220641827, 0.6996423690166447),
    ("sigmoid_norm", {"beta": 0.4}, 0.6436348825937751, 0.2502563917478376, 0.6438333904620355),
]


@pytest.mark.parametrize(("name", "fields", "plain", "weighted", "desensitized"), DPO, ids=[row[0] for row in DPO])
def test_dpo_losses(name: str, fields: dict[str, Any], plain: float, weighted: float, desensitized: float) -> None:
    """A loss equals TRL's: alone, with WPO's weights, and with LD-DPO's ld_alpha."""
    assert mean_loss(name, **fields) == pytest.approx(plain, rel=1e-9)
    assert mean_loss(name, wpo=True, **fields) == pytest.approx(weighted, rel=1e-9)
    assert mean_loss(name, ld_alpha=0.3, **fields) == pytest.approx(desensitized, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("robust", {"label_smoothing": 0.2}, 0.5249230587781165),
        ("exo_pair", {"label_smoothing": 0.1}, 0.4096758198046435),
        ("aot", {}, 0.6004786143336722),
        ("aot", {"label_smoothing": 0.2}, 0.6458119476670056),
        ("aot", {"ld_alpha": 0.3}, 0.5969815521202841),
        ("aot_unpaired", {}, 0.5920742229159422),
        ("aot_unpaired", {"label_smoothing": 0.2}, 0.6374075562492757),
        ("aot_unpaired", {"ld_alpha": 0.3}, 0.5963386350365801),
        ("sft", {}, 1.0444444444444445),
        ("cpo", {"nll_weight": 0.0}, 0.7028963682649582),
        ("cpo", {"nll_weight": 0.0, "label_smoothing": 0.2}, 0.7108963682649584),
        ("simpo", {"beta": 2.0, "gamma": 0.5}, 0.7957608187180191),
    ],
)
def test_other_losses(name: str, fields: dict[str, Any], expected: float) -> None:
    """A loss equals TRL's. TRL keeps label smoothing in float32, which costs it the ninth digit of exo_pair."""
    assert mean_loss(name, **fields) == pytest.approx(expected, rel=1e-7 if name == "exo_pair" else 1e-9)


DIVERGENCES = ["forward_kl", "js_divergence", "alpha_divergence"]


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("sigmoid", {}, [0.6287713188390365, 0.6481414497743323, 0.6139329075813293]),
        ("sigmoid_norm", {}, [0.6467991522442391, 0.6674097883057497, 0.6451358199119568]),
        ("hinge", {}, [0.8203929479192696, 0.8994017040330565, 0.7978187203407288]),
        ("ipo", {}, [1.3388105652569227, 1.3072919272873553, 1.2387789487838745]),
        ("robust", {"label_smoothing": 0.1}, [0.6063204373289451, 0.6355666627784643, 0.5886602997779846]),
        ("discopop", {}, [0.7225752019465866, 0.7934815365345101, 0.7101609110832214]),
        ("exo_pair", {"label_smoothing": 0.1}, [0.43950263796516703, 0.46116849887536304, 0.42396411299705505]),
    ],
)
def test_divergences(name: str, fields: dict[str, Any], expected: list[float]) -> None:
    """A loss under each f-divergence (alpha: 0.5) equals TRL's, whose alpha_divergence runs in float32 only."""
    found = [mean_loss(name, f_divergence=divergence, **fields) for divergence in DIVERGENCES]
    assert found[:2] == pytest.approx(expected[:2], rel=1e-7 if name == "exo_pair" else 1e-9)
    assert found[2] == pytest.approx(expected[2], rel=2e-6)


def test_alpha_divergence_of_another_order() -> None:
    """alpha_divergence takes its order from f_alpha."""
    assert mean_loss("sigmoid", f_divergence="alpha_divergence", f_alpha=0.25) == pytest.approx(0.6210539937019348, rel=2e-6)


def test_orpo_odds_ratio() -> None:
    """The odds-ratio part equals TRL's; TRL adds a likelihood over prompt and response, the paper's and ours is the response's."""
    likelihood = sum(-sum(row) / len(row) for row in POLICY_CHOSEN) / 3
    assert mean_loss("orpo") - likelihood == pytest.approx(0.22445107996463776, rel=1e-6)


@pytest.mark.parametrize(
    ("reference", "expected"), [([-4.6, -3.6, -3.4], 0.5357946796630352), ([-3.0, -3.6, -3.1], 0.5402811721147677)]
)
def test_kto(reference: list[float], expected: float) -> None:
    """KTO equals TRL's mean over the six examples, for a divergence of 0.3 and for one clamped at 0."""
    detail = {"policy_mismatched": [-4.0, -3.5, -3.2], "reference_mismatched": reference}
    assert mean_loss("kto", detail, undesirable_weight=1.3) == pytest.approx(expected, rel=1e-9)


def test_bco_where_trl_left_the_running_mean_out() -> None:
    """TRL 1.x takes d = 0 whatever the rewards are; with a remembered mean of 0 the two agree, with another they do not."""
    assert mean_loss("bco_pair", {"state/mean": 0.0}) == pytest.approx(1.2868484835754994, rel=1e-9)
    assert mean_loss("bco_pair", {"state/mean": 0.0}, wpo=True) == pytest.approx(0.4975396297249964, rel=1e-9)
    assert mean_loss("bco_pair", {"state/mean": 0.0}, ld_alpha=0.3) == pytest.approx(1.2913285807495296, rel=1e-9)
    assert abs(mean_loss("bco_pair", {"state/mean": 0.5}) - 1.2868484835754994) > 1e-4


def test_sigmoid_where_trl_ignores_label_smoothing() -> None:
    """TRL returns the same number for label_smoothing 0 and 0.2; here it takes effect, (1-e) L(m) + e L(-m)."""
    ignored = 0.6004786143336721
    margin = sum(0.4 * (sum(a) - sum(b) - sum(c) + sum(d)) for a, b, c, d in zip(*SIDES.values(), strict=True)) / 3
    assert mean_loss("sigmoid") == pytest.approx(ignored, rel=1e-9)
    # -e LS(-m) = -e LS(m) + e m, so smoothing adds e times the mean margin
    assert mean_loss("sigmoid", label_smoothing=0.2) == pytest.approx(ignored + 0.2 * margin, rel=1e-9)


def test_weighted_sum() -> None:
    """0.8 sigmoid + 0.2 bco_pair + 1 sft, MPO's mixture, equals TRL's loss_type list (d = 0 in bco_pair)."""
    parts = [(losses.create("sigmoid", beta=0.4), 0.8), (losses.create("bco_pair", beta=0.4), 0.2), (losses.create("sft"), 1.0)]
    found = losses.combine(parts)(trl_scores({"state/1/mean": 0.0})).mean().item()
    assert found == pytest.approx(1.782197032626482, rel=1e-9)


def test_metrics() -> None:
    """Rewards, margins, accuracies and log-probabilities equal those that TRL logs; with ld_alpha, rewards do too."""
    scores = trl_scores()
    loss = losses.create("sigmoid", beta=0.4)
    found = metrics.pair_metrics(scores, loss(scores), rewards=loss.rewards(scores))
    expected = {
        "loss": 0.6004786143336721,
        "rewards/chosen": 0.05333333333333338,
        "rewards/rejected": -0.17333333333333334,
        "rewards/margins": 0.2266666666666667,
        "rewards/accuracies": 2 / 3,
        "logps/chosen": -3.1333333333333333,
        "logps/rejected": -3.233333333333333,
    }
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected, rel=1e-9)
    chosen, rejected = losses.create("sigmoid", beta=0.4, ld_alpha=0.3).rewards(scores)
    assert chosen.mean().item() == pytest.approx(0.06266666666666672, rel=1e-9)
    assert rejected.mean().item() == pytest.approx(-0.15466666666666676, rel=1e-9)
