# SPDX-License-Identifier: Apache-2.0
"""tools/demo, but for the demonstration itself: what it refuses, and what it clears away."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.cache import REPOSITORY
from tests.fixtures.service_process import free_port
from tools._common import processes
from tools._common.errors import NoRoom
from tools._common.home import ROOTS, Home
from tools._common.screen import Row, Screen

SLEEP = "import time; time.sleep(300)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP

Start = Callable[..., subprocess.Popen[bytes]]


class Sandbox:
    """A repository with nothing in it but the demonstration, which can install nothing."""

    def __init__(self, repository: Path) -> None:
        self.home = Home("demo", repository)
        shutil.copytree(REPOSITORY / "tools/_common", repository / "tools/_common")
        shutil.copytree(REPOSITORY / "tools/_demo", repository / "tools/_demo")
        shutil.copy(REPOSITORY / "tools/demo", repository / "tools")
        (repository / "tools/install-deps").write_text("#!/bin/sh\necho would install\nexit 3\n")
        (repository / "tools/install-deps").chmod(0o755)
        self.ports = {"NOVA_SNAP_PORT": str(free_port()), "GLANCE_PORT": str(free_port())}

    def run(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.home.repository / "tools/demo", *options],
            env={**os.environ, **self.ports, **environment}, cwd="/",
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def refused(self, *options: str, **environment: str) -> str:
        """Run it, and return why it was refused before anything was installed or made."""
        done = self.run(*options, **environment)
        assert (done.returncode, done.stdout) == (1, "")
        return done.stderr.removeprefix("demo: ").removesuffix("\n")

    def up(self, root: Path, *, kept: bool) -> None:
        """Let it look as if a demonstration was up."""
        self.home.make()
        record = {"roots": [str(root)], "kept": kept}
        (self.home.path / "demo.json").write_text(json.dumps(record))


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    repository = tmp_path / "a repository"
    (repository / "tools").mkdir(parents=True)
    return Sandbox(repository)


@pytest.fixture
def root() -> Iterator[Path]:
    """What a private libvirt of a demonstration has left."""
    path = Path(tempfile.mkdtemp(prefix="nsl-", dir=ROOTS))
    (path / "instances").mkdir()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a process of any name, with any environment."""
    started = []

    def begin(*words: str, name: str = "python", **environment: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [name, "-c", *(words or (SLEEP,))], executable=sys.executable,
            env={**os.environ, **environment},
        )  # fmt: skip
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()


def test_help_tells_all_options_and_variables(sandbox: Sandbox) -> None:
    done = sandbox.run("--help")
    assert done.returncode == 0
    for word in ("--keep", "--down", "NOVA_SNAP_PORT", "GLANCE_PORT", ".demo/clouds.yaml"):
        assert word in done.stdout


@pytest.mark.parametrize("options", [("--nonsense",), ("--keep", "--down")])
def test_options_that_make_no_sense(sandbox: Sandbox, options: tuple[str, ...]) -> None:
    done = sandbox.run(*options)
    assert (done.returncode, done.stdout) == (2, "")
    assert " ".join(options) in done.stderr


@pytest.mark.parametrize("variable", ["NOVA_SNAP_PORT", "GLANCE_PORT"])
def test_a_taken_port(sandbox: Sandbox, variable: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = sandbox.refused("--keep", **{variable: str(port)})
    assert f"port {port} of 127.0.0.1: Address already in use. Set {variable} to" in said
    assert not sandbox.home.path.exists()


@pytest.mark.parametrize("value", ["0", "65536", "-1", "http", "٣٤٥٦"])
def test_what_is_no_port(sandbox: Sandbox, value: str) -> None:
    said = sandbox.refused(GLANCE_PORT=value)
    assert said == f"GLANCE_PORT is {value!r}; it must be a TCP port, 1 to 65535"


def test_one_port_for_two(sandbox: Sandbox) -> None:
    said = sandbox.refused(GLANCE_PORT="8774", NOVA_SNAP_PORT="8774")
    assert "NOVA_SNAP_PORT and GLANCE_PORT are both 8774" in said


def test_what_is_missing_is_installed_only_after_that(sandbox: Sandbox) -> None:
    done = sandbox.run()
    assert (done.returncode, done.stdout) == (3, "would install\n")


def test_one_at_a_time(sandbox: Sandbox) -> None:
    with (sandbox.home.repository / "tools/demo").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another tools/demo is at work" in sandbox.refused()
        assert "another tools/demo is at work" in sandbox.refused("--down")


def test_down_where_nothing_is_up(sandbox: Sandbox) -> None:
    done = sandbox.run("--down")
    assert (done.returncode, done.stdout, done.stderr) == (0, "No demo is up.\n", "")


def test_what_was_kept_stays_until_it_is_ended(sandbox: Sandbox, root: Path, start: Start) -> None:
    sandbox.up(root, kept=True)
    service = start(**{processes.MARK: str(sandbox.home.path)})
    guest = start(SLEEP, f"{root}/monitor", name="qemu-system-x86_64")
    others = [
        start(),
        start(**{processes.MARK: f"{sandbox.home.path}.other"}),
        start(SLEEP, f"{root}/monitor"),
        start(SLEEP, f"{root}x/monitor", name="qemu-system-x86_64"),
    ]
    assert f"OS_CLIENT_CONFIG_FILE={sandbox.home.clouds}" in sandbox.refused("--keep")
    assert (service.poll(), guest.poll()) == (None, None)

    done = sandbox.run("--down")
    assert (done.returncode, done.stdout, done.stderr) == (0, "The demo is down.\n", "")
    assert (service.wait(5), guest.wait(5)) == (-signal.SIGTERM, -signal.SIGTERM)
    assert [process.poll() for process in others] == [None] * len(others)
    assert not root.exists()
    assert not sandbox.home.path.exists()


def test_what_was_kept_is_gone_after_a_reboot(sandbox: Sandbox, root: Path) -> None:
    sandbox.up(root, kept=True)
    shutil.rmtree(root)
    done = sandbox.run()
    assert done.stdout == "Cleared away what a demo that was killed had left.\nwould install\n"
    assert not sandbox.home.path.exists()


def test_what_a_killed_run_has_left_is_cleared_away(
    sandbox: Sandbox, root: Path, start: Start
) -> None:
    sandbox.up(root, kept=False)
    guest = start(SLEEP, f"{root}/monitor", name="qemu-system-x86_64")
    assert sandbox.run().stdout.startswith("Cleared away")
    assert guest.wait(5) == -signal.SIGTERM
    assert not root.exists()


@pytest.mark.parametrize("record", ["", "{", '{"roots"'])
def test_a_record_that_was_cut_off(sandbox: Sandbox, record: str) -> None:
    sandbox.home.make()
    (sandbox.home.path / "demo.json").write_text(record)
    assert sandbox.run("--down").stdout == "The demo is down.\n"
    assert not sandbox.home.path.exists()


def test_nothing_but_roots_is_deleted(sandbox: Sandbox, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    sandbox.up(precious, kept=False)
    assert sandbox.run("--down").returncode == 0
    assert precious.exists()


def test_logs_of_a_failure_stay_until_the_next_run(sandbox: Sandbox, root: Path) -> None:
    sandbox.up(root, kept=False)
    log = sandbox.home.logs / "nova-snap-all.log"
    log.write_text("what went wrong")
    (sandbox.home.path / "state").mkdir()
    assert sandbox.home.clear(keep_logs=True)
    assert [log.read_text(), *sandbox.home.path.iterdir()] == ["what went wrong", log.parent]
    assert not sandbox.home.require_down()
    assert not sandbox.home.path.exists()


def test_a_process_that_does_not_want_to_end(sandbox: Sandbox, start: Start) -> None:
    home = sandbox.home.path
    stubborn = start(STUBBORN, **{processes.MARK: str(home)})
    ignores = 1 << (signal.SIGTERM - 1)
    until = time.monotonic() + 10
    while not int(_status(stubborn.pid, "SigIgn"), 16) & ignores:
        assert time.monotonic() < until
        time.sleep(0.01)
    processes.end(lambda: processes.marked(home), "services", patience=0.3)
    assert stubborn.wait(5) == -signal.SIGKILL


def _status(pid: int, field: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{field}:"))


def test_a_full_disk(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools._common.home.ROOM", 1 << 62)
    with pytest.raises(NoRoom, match=r"a repository has \d+ MiB of free space; the demo needs"):
        sandbox.home.require_room()


# -- the screen ------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _shown(out: io.StringIO) -> str:
    screen = Screen(out)
    screen.live("10 %", news=True)
    screen.live("10 %, a moment later")
    screen.live("20 %", news=True)
    with screen.step("a step") as step:
        step.result = "done"
    with contextlib.suppress(ValueError), screen.step("another step"):
        raise ValueError
    return out.getvalue()


def test_news_become_lines_where_none_can_be_replaced() -> None:
    lines = _shown(io.StringIO()).splitlines()
    assert lines[:2] == ["10 %", "20 %"]
    assert lines[2].split() == ["a", "step", "0.0", "s", "done"]
    assert len(lines) == 3


def test_a_terminal_has_one_line_that_changes() -> None:
    shown = _shown(Terminal())
    assert shown.count("\n") == 1
    assert "\r\x1b[K10 %, a moment later\r\x1b[K20 %" in shown
    assert shown.endswith("\r\x1b[K")


def test_the_table_has_columns() -> None:
    out = io.StringIO()
    Screen(out).table([Row("one", "good", 1.25, 3 << 20), Row("another one", "fine")])
    head, rule, one, other = out.getvalue().splitlines()
    assert one == "  one          good    1.2 s  3.0 MiB"
    assert other == "  another one  fine"
    assert rule == "  -----------  ------  -----  -------"
    assert head.split() == ["result", "time", "size"]
