# SPDX-License-Identifier: Apache-2.0
"""Flavors as clients see them, by microversion."""

from typing import Any

from nova_snap.api.microversion import Microversion
from nova_snap.api.views.links import Links
from nova_snap.objects.flavor import Flavor

View = dict[str, Any]


class ViewBuilder:
    """Makes the views of one request.

    :param extra_specs: whether the client may see them.
    """

    def __init__(self, links: Links, version: Microversion, *, extra_specs: bool) -> None:
        self._links = links
        self._version = version
        self._extra_specs = extra_specs

    def basic(self, flavor: Flavor) -> View:
        """What ``/flavors`` shows."""
        view: View = {
            "id": flavor.flavorid,
            "name": flavor.name,
            "links": self._links.of("flavors", flavor.flavorid),
        }
        if self._version.at_least(55):
            view["description"] = flavor.description
        return view

    def detail(self, flavor: Flavor) -> View:
        """What ``/flavors/detail`` and ``/flavors/{flavor_id}`` show."""
        # Until 2.75 there was a word for no swap that is no number.
        swap = flavor.swap or (0 if self._version.at_least(75) else "")
        view = {
            **self.basic(flavor),
            "ram": flavor.memory_mb,
            "disk": flavor.root_gb,
            "vcpus": flavor.vcpus,
            "swap": swap,
            "rxtx_factor": flavor.rxtx_factor,
            "os-flavor-access:is_public": flavor.is_public,
            "OS-FLV-EXT-DATA:ephemeral": flavor.ephemeral_gb,
            "OS-FLV-DISABLED:disabled": flavor.disabled,
        }
        if self._version.at_least(61) and self._extra_specs:
            view["extra_specs"] = dict(flavor.extra_specs)
        return view
