# SPDX-License-Identifier: Apache-2.0
"""The openstack client, as it comes, for a cloud that has no Keystone."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from tools._common.errors import CommandRefused

CLOUD = "demo"
CLIENT_SECONDS = 120

CLOUDS = """\
# For the openstack client, and for openstacksdk. There is no Keystone here:
# * the token says who asks, USER:PROJECT; nova_snap believes it with [api] auth_strategy = noauth2,
#   and this Glance asks nobody who he is;
# * the services are where the endpoint overrides say, since no catalog does;
# * the client makes sure that there is some identity service before it lists servers, but asks it
#   nothing: the list of versions of any service will do.
clouds:
  {cloud}:
    auth_type: admin_token
    auth:
      endpoint: {nova_snap}/v2.1
      token: {token}
    compute_endpoint_override: {nova_snap}/v2.1
    image_endpoint_override: {glance}
    image_api_version: '2'
    identity_endpoint_override: {nova_snap}/
    identity_api_version: '3'
"""


def write_clouds(path: Path, *, nova_snap: str, glance: str, token: str) -> None:
    """Write a clouds.yaml for services at these URLs."""
    path.write_text(CLOUDS.format(cloud=CLOUD, nova_snap=nova_snap, glance=glance, token=token))


class Client:
    """Runs ``openstack`` commands with a clouds.yaml of their own."""

    def __init__(self, clouds: Path) -> None:
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("OS_")}
        self._environment["OS_CLIENT_CONFIG_FILE"] = str(clouds)

    def start(self, *words: str | Path) -> Command:
        """Start a command such as ``image list``, without waiting for it."""
        program = Path(sys.executable).with_name("openstack")
        argv = [str(word) for word in (program, "--os-cloud", CLOUD, *words)]
        return Command(argv, self._environment)

    def run(self, *words: str | Path) -> str:
        """Run a command and return what it printed.

        :raises CommandRefused: if it fails.
        """
        return self.start(*words).output()


class Command:
    """An ``openstack`` command that runs."""

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        self._words = shlex.join(["openstack", *argv[3:]])
        self._process = subprocess.Popen(
            argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def output(self) -> str:
        """Wait for its end, and return what it printed.

        :raises CommandRefused: if it failed, or takes too long.
        """
        try:
            printed, complaints = self._process.communicate(timeout=CLIENT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            printed, complaints = self._process.communicate()
            outcome = f"not done within {CLIENT_SECONDS} s"
            raise CommandRefused(self._words, outcome, printed + complaints) from None
        if self._process.returncode:
            outcome = f"exit code {self._process.returncode}"
            raise CommandRefused(self._words, outcome, printed + complaints)
        return printed

    def json(self) -> Any:
        """Its output, of a command that was given ``-f json``."""
        return json.loads(self.output())
