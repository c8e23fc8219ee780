"""A batch of texts with the labels to be scored on them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class LabelBatch:
    """T texts, each laid down once, and M labels named by N examples of them.

    Attributes:
        inputs: What the model is called with: `input_ids` and `attention_mask` (T, L), padded on the right.
        example: (M,) the example that names a label.
        text: (M,) the text of that example.
        label: (M,) the label's place in the head.
        positive: (M,) whether the example says that the text has the label.
        length: (N,) labels that each example names.
    """

    inputs: dict[str, Tensor]
    example: Tensor
    text: Tensor
    label: Tensor
    positive: Tensor
    length: Tensor
