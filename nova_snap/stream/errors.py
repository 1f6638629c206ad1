# SPDX-License-Identifier: Apache-2.0
"""Why a disk could not be read over NBD.

::

    NBDError
    +-- NBDConnectFailed    nobody listens there
    +-- NBDRefused          the server declined what was asked in the handshake
    +-- NBDProtocolError    the server broke the protocol
    +-- NBDServerError      the server answered a request with an error
    +-- NBDTimeout          the server did not answer in time
    +-- NBDDisconnected     the connection ended
        +-- NBDClosed       because this side closed it
"""

from nova_snap.exception import NovaSnapError


class NBDError(NovaSnapError):
    """The disk cannot be read.

    :ivar server: the path of the server's socket.
    """

    server: str
    user_msg = "The disk could not be read; the log of the compute host says why."


class NBDConnectFailed(NBDError):
    reason: str
    msg = "No connection to the NBD server at {self.server}: {self.reason}"


class NBDRefused(NBDError):
    """:ivar option: what was asked for; :ivar reply: the name of the error reply."""

    export: str
    option: str
    reply: str
    reason: str
    msg = (
        "The NBD server at {self.server} refused {self.option} for export '{self.export}' "
        "with {self.reply}: {self.reason}"
    )


class NBDProtocolError(NBDError):
    """After it the connection is of no use: where the next message starts is not known."""

    expected: str
    found: str
    msg = (
        "The NBD server at {self.server} broke the protocol: expected {self.expected}, "
        "found {self.found}"
    )


class NBDServerError(NBDError):
    """The connection outlives it, unless the server is shutting down.

    :ivar operation: ``read`` or ``block status``.
    :ivar code: the error number of the protocol.
    :ivar name: its name, such as ``EIO``.
    :ivar offset: where, in bytes; of the failed request if the server did not tell.
    :ivar length: of the request, in bytes.
    :ivar reason: the server's own words, or nothing.
    """

    operation: str
    code: int
    name: str
    offset: int
    length: int
    reason: str
    msg = (
        "The NBD server at {self.server} failed with {self.name} at offset {self.offset} in a "
        "{self.operation} of {self.length} bytes: {self.reason}"
    )
    user_msg = "The disk could not be read: {self.name} at offset {self.offset}."


class NBDTimeout(NBDError):
    """:ivar what: was waited for; :ivar seconds: how long."""

    what: str
    seconds: float
    msg = "Waited {self.seconds:g} s for {self.what} from the NBD server at {self.server}."
    user_msg = "The disk could not be read: no answer within {self.seconds:g} s."


class NBDDisconnected(NBDError):
    """:ivar what: was going on."""

    what: str
    msg = "The NBD server at {self.server} is gone; the connection ended during {self.what}."


class NBDClosed(NBDDisconnected):
    msg = "The connection to the NBD server at {self.server} was closed during {self.what}."
