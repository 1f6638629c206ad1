# SPDX-License-Identifier: Apache-2.0
"""What is fuzzed: one module per kind of input."""

from pathlib import Path

from tests.fuzz.target import Target

NAMES = (
    "nbd",
    "domain",
    "adoption",
    "qcow2",
    "tools",
    "api",
    "images",
    "openapi",
    "messages",
    "glance",
)


def make(name: str, directory: Path) -> Target:
    """The target of that name. Only its own module is imported: each needs others of the product.

    :param directory: for its files.
    """
    module = __import__(f"tests.fuzz.targets.{name}", fromlist=["TARGET"])
    made: Target = module.TARGET(directory)
    return made
