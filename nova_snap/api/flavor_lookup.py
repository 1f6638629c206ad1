# SPDX-License-Identifier: Apache-2.0
"""Finding the flavor that a client names."""

import re
from typing import Final

from nova_snap import exception
from nova_snap.api import text
from nova_snap.context import RequestContext
from nova_snap.objects.flavor import Flavor

# What a flavor may be created with; nothing else is looked for.
_ID: Final = re.compile(r"[a-zA-Z0-9. _-]{1,255}\Z")


def find(context: RequestContext, flavor_id: str) -> Flavor:
    """The flavor, if it is one that the context may know of.

    :raises nova_snap.exception.FlavorNotFound: if there is none.
    """
    if _ID.match(flavor_id) is None:
        raise exception.FlavorNotFound(flavor_id=text.shorten(flavor_id))
    return Flavor.get_by_flavor_id(context, flavor_id)
