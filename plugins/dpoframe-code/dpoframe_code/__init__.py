"""Code synthesis for dpoframe.

This module is what the entry point names; it imports nothing heavy. The sandbox is `dpoframe_code.sandbox` and is usable
alone; what turns a benchmark's tests into calls and expected answers is `dpoframe_code.oracle`.
"""

from __future__ import annotations

__version__ = "0.1.0"
