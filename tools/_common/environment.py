# SPDX-License-Identifier: Apache-2.0
"""What has to be made once: ``.venv``, virtualenvs of other services, the guest's disk."""

from __future__ import annotations

import concurrent.futures
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path

from tests.fixtures import cache
from tests.fixtures.commands import run
from tools._common import processes
from tools._common.errors import PreparationFailed
from tools._common.home import Home
from tools._common.screen import Screen

# The same for every tool: .venv serves all of them.
CLIENTS = ("python-openstackclient>=6.0", "python-novaclient>=18.0")
PIP_SECONDS = 1200
POLL_SECONDS = 0.2


def prepare(home: Home, screen: Screen, others: Mapping[str, Callable[[], object]]) -> None:
    """Make ``.venv`` and others that are not there yet, all at the same time.

    :param others: by name, for messages: what makes it unless it is there.
    :raises PreparationFailed: if something cannot be made.
    """
    processes.mark(home.path)
    tasks = {".venv": lambda: make_venv(home.repository), **others}
    with concurrent.futures.ThreadPoolExecutor(len(tasks)) as pool:
        futures = {pool.submit(_guarded, name, task): name for name, task in tasks.items()}
        try:
            _wait(futures, screen)
        except BaseException:
            # What the other threads wait for is ended, so that they end.
            while concurrent.futures.wait(futures, timeout=POLL_SECONDS).not_done:
                processes.end(lambda: processes.marked(home.path), "preparation", patience=5)
            raise


def _wait(futures: dict[Future[None], str], screen: Screen) -> None:
    began = time.monotonic()
    waiting = set(futures)
    said = False
    while waiting:
        done, waiting = concurrent.futures.wait(
            waiting, timeout=1, return_when=concurrent.futures.FIRST_COMPLETED
        )
        seconds = time.monotonic() - began
        if waiting and not said and seconds > 1:
            screen.say("Preparing (the first time takes a minute or two)")
            said = True
        for future in done:
            future.result()
            if said:
                screen.say(f"  {futures[future]} is there after {seconds:.0f} s")
        if said and waiting:
            screen.live(f"  making {', '.join(futures[each] for each in waiting)} {seconds:.0f} s")


def make_venv(repository: Path) -> None:
    """Bring ``.venv`` up to date: this project, as it lies here, and the clients.

    A ``.venv`` that somebody else has made is used, and not made anew.
    """
    place = repository / ".venv"
    if place.is_file():
        # A file that names a virtualenv elsewhere (PEP 832), which tox and other tools leave.
        place.unlink()
    marker = place / ".nova-snap-tools"
    constraints = repository / "constraints.txt"
    limits = [constraints] if constraints.exists() else []
    # A virtualenv does not outlive a move, nor another Python.
    made_for = cache.digest_of(str(place), sys.version)
    content = cache.digest_of(
        repository / "setup.cfg", repository / "pyproject.toml", *limits, *CLIENTS
    )
    known = marker.read_text().split() if marker.exists() else []
    if known == [made_for, content]:
        return
    python = place / "bin/python"
    if not python.exists() or (known and known[0] != made_for):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        marker.write_text("unfinished\n")
        run(sys.executable, "-m", "venv", place)
    marker.write_text(f"{made_for}\n")
    run(
        *(python, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"),
        *(word for path in limits for word in ("-c", path)),
        *("-e", repository, *CLIENTS),
        timeout=PIP_SECONDS,
    )
    marker.write_text(f"{made_for}\n{content}\n")


def _guarded(name: str, task: Callable[[], object]) -> None:
    try:
        task()
    except PermissionError:
        raise
    except Exception as error:
        # All of them are for people already, and say what to install or what pip said.
        raise PreparationFailed(name, str(error)) from error
