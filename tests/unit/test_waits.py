# SPDX-License-Identifier: Apache-2.0
"""Every wait has a bound: calls that can wait for ever without one are named here, with a reason.

What the bounds are, by which options, and the tests at them: doc/testing.md.
"""

import ast
import pathlib
import textwrap
from collections.abc import Iterator

import pytest

import nova_snap

ROOT = pathlib.Path(nova_snap.__file__).parent

# What waits for ever on purpose: "module: call", and why.
ON_PURPOSE = {
    "cmd.run: self._event.wait()": "the process lives until a signal comes",
    "cmd.all: stop.wait()": "the same",
    "cmd.api: stop.wait()": "the same",
    "cmd.compute: stop.wait()": "the same",
    "cmd.api_server: self._unservicable_conns.get()": "a thread without work, ended by cheroot",
    "cmd.http: super().communicate()": "cheroot's: its socket has [api] timeout",
    "compute.notifications: self._waiting.get()": "a daemon thread without work, ended by None",
    "compute.service: self._server.wait()": "in a thread that is waited for with a bound",
    "compute.volume_snapshots: snapshots.wait()": "VolumeSet.wait has [cinder] snapshot_timeout",
    "stream.compress: waiting.popleft().result()": "compressing is work, and waits for nobody",
    "volume.cinder: client.limits.get()": "a request: the session has [cinder] timeout",
}

# Methods that wait for ever if they are called without any argument.
WITHOUT_ARGUMENT = {"wait", "join", "get", "result", "acquire"}
# Functions and methods that need a timeout by its name; or as argument number so and so, from 0.
NEEDS_TIMEOUT: dict[str, int | None] = {
    "subprocess.run": None,
    "subprocess.call": None,
    "subprocess.check_call": None,
    "subprocess.check_output": None,
    "communicate": None,
    "urlopen": None,
    "wait_for": 1,
    "futures.wait": 1,
    "as_completed": 1,
    "create_connection": 1,
    "select.select": 3,
}
HTTP = {"get", "put", "post", "patch", "delete", "head", "request"}


def unbounded(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each call that may wait for ever."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and _waits(node):
            yield node.lineno, ast.unparse(node)
        if isinstance(node, ast.With):
            for item in node.items:
                if _is_process(item.context_expr):
                    yield node.lineno, f"with {ast.unparse(item)}"


def _is_process(node: ast.expr) -> bool:
    """Whether the end of a ``with`` waits for a process, however long that takes."""
    name = ast.unparse(node.func if isinstance(node, ast.Call) else node).rpartition(".")[2]
    return name == "Popen" or (name == "process" and not isinstance(node, ast.Call))


def _waits(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    last = name.rpartition(".")[2]
    named = {keyword.arg for keyword in call.keywords}
    if None in named or any(isinstance(each, ast.Starred) for each in call.args):
        return False
    if name.endswith(("flock", "lockf")):
        return not any("LOCK_NB" in ast.unparse(each) for each in call.args)
    if "." in name and last in WITHOUT_ARGUMENT and not call.args:
        return not named & {"timeout", "blocking"}
    if last in HTTP and name.rpartition(".")[0].endswith(("requests", "session")):
        return "timeout" not in named
    for function, place in NEEDS_TIMEOUT.items():
        if name.endswith(function) if "." in function else last == function:
            given = place is not None and len(call.args) > place
            return not given and "timeout" not in named
    return False


def modules() -> list[pathlib.Path]:
    return sorted(ROOT.rglob("*.py"))


def test_every_wait_has_a_bound() -> None:
    found = {}
    for path in modules():
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for line, text in unbounded(path.read_text()):
            found[f"{name}: {text}"] = f"{path}:{line}"
    assert {text: at for text, at in found.items() if text not in ON_PURPOSE} == {}
    assert set(ON_PURPOSE) - set(found) == set(), "there is no such call any more"


@pytest.mark.parametrize(
    "source",
    [
        "event.wait()",
        "thread.join()",
        "queue.get()",
        "future.result()",
        "lock.acquire()",
        "subprocess.run(['true'], check=True)",
        "process.communicate()",
        "process.communicate(b'input')",
        "requests.get('http://a')",
        "self.session.put(url, data=data)",
        "socket.create_connection(('a', 1))",
        "select.select([a], [], [])",
        "fcntl.flock(file, fcntl.LOCK_EX)",
        "concurrent.futures.wait(running)",
        "condition.wait_for(lambda: True)",
    ],
)
def test_the_check_sees(source: str) -> None:
    assert list(unbounded(source)) == [(1, ast.unparse(ast.parse(source)))]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("with process: process.poll()", "with process"),
        ("with self.process: pass", "with self.process"),
        ("with open(path), subprocess.Popen(words) as made: pass",
         "with subprocess.Popen(words) as made"),
    ],
)  # fmt: skip
def test_the_check_sees_with(source: str, found: str) -> None:
    assert list(unbounded(source)) == [(1, found)]


def test_the_check_lets_pass() -> None:
    source = """
        event.wait(3)
        event.wait(timeout=seconds)
        thread.join(5.0)
        ", ".join(names)
        settings.get("name")
        queue.get(timeout=1)
        lock.acquire(timeout=1)
        lock.acquire(blocking=False)
        subprocess.run(["true"], timeout=3)
        process.communicate(timeout=3)
        session.put(url, timeout=3)
        socket.create_connection(("a", 1), 5)
        select.select([a], [], [], 0)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        futures.wait(running, 3)
        subprocess.run(*args, **given)
        with processes.ended(process, "qemu-img"): pass
    """
    assert list(unbounded(textwrap.dedent(source))) == []
