# SPDX-License-Identifier: Apache-2.0
"""Which configuration files a WSGI server's process reads: it has no command line of ours."""

import pathlib
from collections.abc import Mapping
from typing import Final

DIRECTORY: Final = "OS_NOVA_SNAP_CONFIG_DIR"
FILES: Final = "OS_NOVA_SNAP_CONFIG_FILES"

_DEFAULT_DIRECTORY: Final = "/etc/nova_snap"
_DEFAULT_NAMES: Final = ("nova-snap.conf", "nova-snap-api.conf")


def config_files(environ: Mapping[str, str]) -> list[str] | None:
    """The files that the environment names; ``None`` to look where every process looks.

    ``OS_NOVA_SNAP_CONFIG_FILES`` is a list of files with ``;`` between them, those without a
    leading ``/`` below ``OS_NOVA_SNAP_CONFIG_DIR`` (/etc/nova_snap). With only the directory,
    nova-snap.conf and nova-snap-api.conf in it are read where they exist.

    :raises FileNotFoundError: if the directory, or a file that is named, does not exist.
    """
    directory = pathlib.Path(environ.get(DIRECTORY) or _DEFAULT_DIRECTORY)
    names = [name.strip() for name in environ.get(FILES, "").split(";") if name.strip()]
    if names:
        found = [directory / name for name in names]
        for path in found:
            if not path.is_file():
                raise FileNotFoundError(f"{FILES} names {path}, which is not a file")
        return [str(path) for path in found]
    if not environ.get(DIRECTORY):
        return None
    if not directory.is_dir():
        raise FileNotFoundError(f"{DIRECTORY} is {directory}, which is not a directory")
    return [str(directory / name) for name in _DEFAULT_NAMES if (directory / name).is_file()]
