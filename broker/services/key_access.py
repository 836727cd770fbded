"""A profile opened together with the key access service that it names.

A session knows no service, so that a service can open a session of its own. Here both come together: the
profile's ``kas`` says which service is meant. Today that is one inside this process (``local:``).
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

    ``ask`` is called for the passphrase of the keys where neither the environment nor the profile gives
    one. Raises UsageError for a profile or a log that is not there, NotEntitled for a directory that is
    another, or less, than what was pinned and seen before.
    """
    if not isinstance(profile, Profile):
        profile = Profile.load(Path(profile))
    return open_session(profile, key_access=open_key_access, ask=ask)
