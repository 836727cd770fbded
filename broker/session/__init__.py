"""A participant at work: a profile opened to its log, its directory, its keys and its key access service."""

from broker.session.profile import Profile, Role
from broker.session.session import Session, open_session

__all__ = ["Profile", "Role", "Session", "open_session"]
