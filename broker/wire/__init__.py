"""The wire: the bytes of ``schemas/README.md`` as values, and values as those bytes.

Each class has the fields of one schema in ``schemas/protocol``, by the same names and in the same order.
This room knows what bytes mean and whether their form is right. It never knows who may say something:
that is for ``directory``, ``verify`` and ``access`` to judge.
"""

__all__: list[str] = []
