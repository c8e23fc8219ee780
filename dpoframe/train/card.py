"""The model card that is exported with a model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, StrictUndefined

from dpoframe.config.recipe import Recipe

TEMPLATE = """\
---
library_name: {{ library }}
{% if pipeline_tag %}
pipeline_tag: {{ pipeline_tag }}
{% endif %}
{% if base_model %}
base_model: {{ base_model }}
{% endif %}
tags:
- dpo
- preference-alignment
- dpoframe
---

# {{ name }}

{{ description }}

Aligned with human preferences by dpoframe {{ version }}.

| | |
|---|---|
| Modality | {{ modality }} |
| Loss | {{ loss }} |
| Reference | {{ reference }} |
| Preference data | {{ data }}, {{ pairs }} pairs |
| Optimizer steps | {{ steps }} of {{ batch_size }} pairs, learning rate {{ lr }} |
| Seed | {{ seed }} |

{% if note %}
{{ note }}

{% endif %}
{% if final %}
## The last figures of the run

These are {{ "metrics of held-out pairs" if held_out else "training metrics" }}.
They say that the model tells such pairs apart, not that its answers are better.

| metric | value |
|---|---|
{% for key, value in final.items() -%}
| {{ key }} | {{ "%.4g" | format(value) }} |
{% endfor %}

{% endif %}
{% if usage %}
## Use

{{ usage }}

{% endif %}
`dpoframe.json` records how to open the model; the training recipe stands below.

```yaml
{{ recipe }}```
"""
# C0 and C1 controls but for newline and tab, marks that turn the direction of text, line separators that some programs take for
# the end of a line, half characters that no file can hold, and tags, which are shown nowhere.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
SHOWN = ("loss", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected")


def model_card(recipe: Recipe, pairs: int, steps: int, version: str, rows: Sequence[Mapping[str, Any]], note: str = "") -> str:
    """The card as Markdown, with control characters written out.

    Args:
        recipe: The resolved recipe.
        pairs: Training pairs.
        steps: Optimizer steps done.
        version: dpoframe's.
        rows: The rows of metrics.jsonl; figures of the last validation, else of the last step, are shown.
        note: What else is to be known of the weights.
    """
    held_out = [row for row in rows if row.get("stage") == "validation"]
    chosen = held_out or [row for row in rows if "stage" not in row]
    final = {name: chosen[-1][name] for name in SHOWN if isinstance(chosen[-1].get(name), float)} if chosen else {}
    plain = recipe.to_dict()
    said = recipe.modality.value.card()
    # Markdown, not HTML. A line that holds nothing but a tag leaves none.
    template = Environment(undefined=StrictUndefined, autoescape=False, trim_blocks=True).from_string(TEMPLATE)
    text = template.render(
        library=recipe.modality.value.library,
        name=recipe.name,
        description=recipe.description,
        version=version,
        modality=recipe.modality.name,
        loss=", ".join(one.part.name for one in recipe.loss),
        reference=recipe.reference.kind,
        data=plain["data"]["name"],
        pairs=pairs,
        steps=steps,
        batch_size=recipe.trainer.batch_size,
        lr=recipe.trainer.lr,
        seed=recipe.seed,
        final=final,
        held_out=bool(held_out),
        note=note,
        **{name: said.get(name, "") for name in ("pipeline_tag", "base_model", "usage")},
        recipe=recipe.to_yaml(),
    )
    return _CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode(), text)
