# SPDX-License-Identifier: Apache-2.0
"""Many instances, or requests, are gone through, and none waits for what is wrong with another."""

import contextlib
from collections.abc import Iterator

from oslo_db import exception as db_exception
from oslo_log import log


@contextlib.contextmanager
def apart(logger: log.BaseLoggerAdapter, message: str, *arguments: object) -> Iterator[None]:
    """What goes wrong with one of them in the block is logged, whatever it is, and no more.

    :param logger: of the module that goes through them; with ``message`` and its ``arguments``.
    :raises oslo_db.exception.DBError: without the database nothing can be done for the others
        either; all of them are tried again another time, such as at the next start.
    """
    try:
        yield
    except db_exception.DBError:
        raise
    except Exception:
        logger.exception(message, *arguments)
