"""A coalition on a log for each test."""

from support.fixtures import quick_retries, world

__all__ = ["quick_retries", "world"]
