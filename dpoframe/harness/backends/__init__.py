"""What writes a suite's answers: the model itself, vLLM on its weights, or an endpoint."""

from __future__ import annotations

from collections.abc import Mapping

from dpoframe.harness.backends.base import Backend, Native
from dpoframe.harness.backends.endpoint import Endpoint
from dpoframe.harness.backends.vllm import Vllm

KINDS: Mapping[str, type[Backend]] = {"modality": Native, "transformers": Native, "vllm": Vllm, "endpoint": Endpoint}
"""Backends by the word that a suite uses in `backend: {kind: ...}`."""

__all__ = ["KINDS", "Backend", "Endpoint", "Native", "Vllm"]
