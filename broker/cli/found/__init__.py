"""The commands that found a coalition and change who takes part in it.

They cover the authority, agencies, auditors, channels, the key access service and statement files.
"""

__all__: list[str] = []
