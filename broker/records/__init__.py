"""What a record may say: its terms and its body, checked against its schema and against the rules of the law.

Everything here is pure, and knows nothing of channels, keys or logs. `broker.records.record` is the entrance.
"""

__all__: list[str] = []
