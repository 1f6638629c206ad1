# SPDX-License-Identifier: Apache-2.0
"""What the list of host aggregates looks like: empty."""

from typing import Final

from nova_snap.api.schemas.types import array_of, closed

INDEX: Final = closed({"aggregates": array_of({}, maxItems=0)})
