"""What the broker costs, as ratios in one run on one machine: ``python -m bench --help``."""

from __future__ import annotations

__all__: list[str] = []
