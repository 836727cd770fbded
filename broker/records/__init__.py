"""What a record may say: its terms and its body, with every rule of the record types checked."""

__all__: list[str] = []
