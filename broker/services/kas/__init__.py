"""The key access service (KAS): it logs, durably, who reads what and why, and only then releases."""

__all__: list[str] = []
