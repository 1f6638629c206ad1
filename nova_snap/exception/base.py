# SPDX-License-Identifier: Apache-2.0
"""What every error has, and the kinds of them that the API tells apart."""

from typing import Final


class NovaSnapError(Exception):
    """The root: whoever catches it catches everything that was foreseen.

    :cvar msg: the message, for the log; it may say everything.
    :cvar user_msg: the message for a client, where ``msg`` names hosts, paths or endpoints.
    """

    msg = "An error occurred"
    user_msg: str | None = None

    def __init__(self, **data: object) -> None:
        """:param data: what the message of the class names; kept as attributes."""
        self.__dict__.update(data)
        super().__init__(self.msg.format(self=self))

    def for_user(self) -> str:
        """What a client may read of it."""
        return (self.user_msg or self.msg).format(self=self)


UNFORESEEN: Final = "An unexpected error occurred."


def for_user(error: BaseException, unforeseen: str = UNFORESEEN) -> str:
    """What a client may read of any error.

    :param unforeseen: what is said of one that is none of these: its own words are for the log.
    """
    return error.for_user() if isinstance(error, NovaSnapError) else unforeseen


class NotFound(NovaSnapError):
    """Something that was named does not exist."""


class Conflict(NovaSnapError):
    """The state of a thing forbids what was asked."""


class Invalid(NovaSnapError):
    """A value that cannot be used."""


class Forbidden(NovaSnapError):
    """The caller may not do this."""
