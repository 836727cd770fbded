"""Sessions: a participant at work, its profile opened to its log, directory, keys and key access service.

This room knows files: the profile, the folder of keys, the passphrase, the mark of the directory that was
seen. It serves programs and the command line alike, so nothing here prints, and nothing asks a person except
through the function that the caller passes in. Which key access service there is, and how it is opened, is
passed in as well: services open sessions themselves.
"""

from broker.session.profile import Profile, Role
from broker.session.session import Session, open_session

__all__ = ["Profile", "Role", "Session", "open_session"]
