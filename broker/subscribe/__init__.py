"""Subscribing and consulting: records are verified, their reading is logged, and then they are unlocked."""

__all__: list[str] = []
