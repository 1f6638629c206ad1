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

# What waits for ever on purpose: "module: call", which there is once, and why.
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
    "image.http: begun.wait()": "a daemon thread, ended with its request",
    "stream.compress: reader.close(timeout=None)": "the source has [libvirt] snapshot_read_timeout",
    "stream.compress: pool.shutdown(cancel_futures=True)": "work that is begun is ended",
    "stream.compress: waiting.popleft().result()": "compressing is work, and waits for nobody",
    "volume.cinder: client.limits.get()": "a request: the session has [cinder] timeout",
}

# Methods that wait for ever if they are called without any argument, or with none that bounds.
WITHOUT_ARGUMENT = {"wait", "join", "get", "result", "acquire"}
# Their first argument may be a bound; that of others is something else.
BOUND_FIRST = {"wait", "join", "result"}
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
# Names of what has threads; and what waits at the end of its block.
EXECUTORS = ("executor", "pool")
ENDED_BY_BLOCK = {"Popen", "ThreadPoolExecutor", "ProcessPoolExecutor"}
HTTP = {"get", "put", "post", "patch", "delete", "head", "request"}


def unbounded(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each call that may wait for ever."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and _waits(node):
            yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.With | ast.AsyncWith):
            for item in node.items:
                if _enters_and_waits(item):
                    yield node.lineno, f"with {ast.unparse(item)}"


def _waits(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    last = name.rpartition(".")[2]
    given_by_name = {keyword.arg: keyword.value for keyword in call.keywords}
    if None in given_by_name or any(isinstance(each, ast.Starred) for each in call.args):
        return False
    # Whatever it is: somebody has asked for it.
    if "timeout" in given_by_name and _is_endless(given_by_name["timeout"]):
        return True
    # block=True: as if nothing had been said.
    named = {arg for arg, value in given_by_name.items() if not _is_endless(value)}
    arguments = [each for each in call.args if not _is_endless(each)]
    if name.endswith(("flock", "lockf")):
        return not any("LOCK_NB" in ast.unparse(each) for each in call.args)
    if "." in name and last == "shutdown":
        # Of an executor: a socket's and a server's take a word, or nothing.
        return _shuts_down_and_waits(name, given_by_name)
    if last in HTTP and name.rpartition(".")[0].endswith(("requests", "session")):
        return "timeout" not in named
    for function, place in NEEDS_TIMEOUT.items():
        if name.endswith(function) if "." in function else last == function:
            given = place is not None and len(call.args) > place
            given = given and not _is_endless(call.args[place or 0])
            return not given and "timeout" not in named
    if "." in name and last in WITHOUT_ARGUMENT:
        bound = named & {"timeout", "blocking", "block"}
        return not bound and not (arguments if last in BOUND_FIRST else _bounds(last, call))
    return False


def _is_endless(value: ast.expr) -> bool:
    """Whether it is the literal that says that something may take as long as it wants."""
    return isinstance(value, ast.Constant) and (value.value is None or value.value is True)


def _bounds(method: str, call: ast.Call) -> bool:
    """Whether ``get`` or ``acquire`` of something that is waited for has a bound by its place:
    ``get(key)`` is a dictionary's, and ``acquire(False)`` returns at once."""
    first, *rest = [*call.args, None]
    if first is None or _is_endless(first):
        return any(each is not None and not _is_endless(each) for each in rest)
    return True


def _shuts_down_and_waits(name: str, given: dict[str | None, ast.expr]) -> bool:
    owner = name.rpartition(".")[0].lower()
    if not any(word in owner for word in EXECUTORS):
        return False
    wait = given.get("wait")
    return not (isinstance(wait, ast.Constant) and wait.value is False)


def _enters_and_waits(item: ast.withitem) -> bool:
    """A process is waited for when its block ends, and an executor's threads are."""
    entered = item.context_expr
    if not isinstance(entered, ast.Call):
        return ast.unparse(entered).rpartition(".")[2] == "process"
    return ast.unparse(entered.func).rpartition(".")[2] in ENDED_BY_BLOCK


def modules() -> list[pathlib.Path]:
    return sorted(ROOT.rglob("*.py"))


def test_every_wait_has_a_bound() -> None:
    found: dict[str, list[str]] = {}
    for path in modules():
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for line, text in unbounded(path.read_text()):
            found.setdefault(f"{name}: {text}", []).append(f"{path}:{line}")
    assert {text: at for text, at in found.items() if text not in ON_PURPOSE} == {}
    assert set(ON_PURPOSE) - set(found) == set(), "there is no such call any more"
    again = {text: at for text, at in found.items() if len(at) > 1}
    assert again == {}, "the reason is that of one of them"


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
        "condition.wait_for(lambda: True, None)",
        "event.wait(None)",
        "reader.close(timeout=None)",
        "event.wait(timeout=None)",
        "thread.join(timeout=None)",
        "queue.get(True)",
        "queue.get(True, None)",
        "queue.get(block=True)",
        "lock.acquire(True)",
        "lock.acquire(blocking=True)",
        "future.result(None)",
        "subprocess.run(['true'], timeout=None)",
        "process.communicate(timeout=None)",
        "requests.get('http://a', timeout=None)",
        "socket.create_connection(('a', 1), None)",
        "select.select([a], [], [], None)",
        "executor.shutdown()",
        "self._executor.shutdown(wait=True)",
        "self._pool.shutdown(cancel_futures=True)",
    ],
)
def test_the_check_sees(source: str) -> None:
    assert list(unbounded(source)) == [(1, ast.unparse(ast.parse(source)))]


@pytest.mark.parametrize(
    "entered",
    [
        "subprocess.Popen(['true'])",
        "subprocess.Popen(['true']) as process",
        "ThreadPoolExecutor(2) as pool",
        "futures.ThreadPoolExecutor()",
        "process",
        "self.process",
    ],
)
def test_the_check_sees_blocks_that_wait_at_their_end(entered: str) -> None:
    source = f"with open('a'), {entered}:\n    work()"
    assert list(unbounded(source)) == [(1, f"with {entered}")]


def test_the_check_lets_pass() -> None:
    source = """
        event.wait(3)
        event.wait(timeout=seconds)
        thread.join(5.0)
        ", ".join(names)
        settings.get("name")
        settings.get("name", True)
        settings.get("name", None)
        queue.get(timeout=1)
        queue.get(True, 1)
        queue.get(block=False)
        executor.shutdown(wait=False)
        connection.shutdown(socket.SHUT_RDWR)
        server.shutdown()
        lock.acquire(False)
        lock.acquire(True, 3)
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
