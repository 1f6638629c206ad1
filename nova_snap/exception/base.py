# SPDX-License-Identifier: Apache-2.0
"""What every error has, and the kinds of them that the API tells apart."""

import string
from typing import Any, Final


def printable(text: str) -> str:
    """The text on one line, and without what a terminal obeys: such characters as in ``repr``.

    What is in it may have been written by a guest, or by whoever made an image.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


class _Formatter(string.Formatter):
    """Makes messages, in which what is filled in cannot pass for something else in a log."""

    def format_field(self, value: Any, format_spec: str) -> str:
        return printable(str(super().format_field(value, format_spec)))


_FORMATTER: Final = _Formatter()


class NovaSnapError(Exception):
    """The root: whoever catches it catches everything that was foreseen.

    :cvar msg: the message, for the log; it may say everything.
    :cvar user_msg: the message for a client, where ``msg`` names hosts, paths or endpoints.
    """

    msg = "An error occurred"
    user_msg: str | None = None

    def __init__(self, **data: object) -> None:
        """:param data: what the message of the class names; kept as attributes, just as it is. In
        the messages it is on one line: see :func:`printable`.
        """
        self.__dict__.update(data)
        super().__init__(_FORMATTER.format(self.msg, self=self))

    def for_user(self) -> str:
        """What a client may read of it."""
        return _FORMATTER.format(self.user_msg or self.msg, self=self)


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
