"""Everything a plugin author needs to test a part: contracts to subclass, a toy modality, fixtures."""

from __future__ import annotations
