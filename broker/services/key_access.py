"""A profile opened together with the key access service that it names.

A session knows no service, so a service can open a session of its own. Both come together here: the
``kas`` of a profile says which service is meant. Today this is a service inside this process (``local:``).
"""

from __future__ import annotations

import os
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from broker.services.kas.local import open_key_access
from broker.session.passphrase import Ask
from broker.session.profile import Profile
from broker.session.session import Session, open_session

__all__ = ["open_profile"]


def open_profile(
    profile: Profile | str | os.PathLike[str], *, ask: Ask | None = None
) -> AbstractAsyncContextManager[Session]:
    """Open a participant's profile: ``async with open_profile("police/xaa-police.toml") as police``.

    ``ask`` is called for the passphrase of the keys when neither the environment nor the profile gives it.
    Raises UsageError when the profile or the log does not exist, and NotEntitled when the log holds another
    directory than the profile pins, or less of it than was seen before.
    """
    if not isinstance(profile, Profile):
        profile = Profile.load(Path(profile))
    return open_session(profile, key_access=open_key_access, ask=ask)
