# SPDX-License-Identifier: Apache-2.0
"""What no module does: run a shell, run what it has read, guess a file's name, follow an entity."""

import ast
import pathlib
from collections.abc import Callable, Iterator

import pytest

import nova_snap

ROOT = pathlib.Path(nova_snap.__file__).parent

# By their full names, as they are after the imports of a module.
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "breakpoint",
    "os.system", "os.popen", "os.execl", "os.execlp", "os.spawnl", "os.spawnlp", "os.tempnam",
    "subprocess.getoutput", "subprocess.getstatusoutput", "commands.getoutput", "pty.spawn",
    "asyncio.create_subprocess_shell",
    "tempfile.mktemp",
    "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load",
    "random.choice", "random.randint", "random.random", "random.getrandbits",
    "lxml.etree.XML", "lxml.etree.HTML", "lxml.etree.XMLParser", "lxml.etree.parse",
    "xml.etree.ElementTree.fromstring", "xml.etree.ElementTree.parse",
    "xml.dom.minidom.parseString",
    "ssl._create_unverified_context",
}  # fmt: skip
FORBIDDEN_MODULES = {
    "pickle", "cPickle", "dill", "shelve", "marshal", "telnetlib", "ftplib", "xml.sax", "imp",
    "paramiko", "requests.packages",
}  # fmt: skip
# Where an argument makes a call unsafe: what it must not be.
FORBIDDEN_ARGUMENTS: dict[str, Callable[[ast.expr], bool]] = {
    "shell": lambda value: not is_constant(value, False),
    "preexec_fn": lambda value: not is_constant(value, None),
    "verify": lambda value: is_constant(value, False),
    "resolve_entities": lambda value: not is_constant(value, False),
    "no_network": lambda value: not is_constant(value, True),
    "huge_tree": lambda value: not is_constant(value, False),
    "load_dtd": lambda value: not is_constant(value, False),
}
# The one place where XML is read, with a parser that is made there.
XML_READERS = {"nova_snap.virt.libvirt.domain_xml"}


def is_constant(node: ast.expr, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def names(tree: ast.Module) -> dict[str, str]:
    """What each imported name stands for."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return found


def full_name(node: ast.expr, known: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{full_name(node.value, known)}.{node.attr}"
    return known.get(node.id, node.id) if isinstance(node, ast.Name) else ""


def unsafe(source: str) -> Iterator[tuple[int, str]]:
    """What is wrong with a module: line and words."""
    tree = ast.parse(source)
    known = names(tree)
    for name in known.values():
        if any(name == module or name.startswith(f"{module}.") for module in FORBIDDEN_MODULES):
            yield 0, f"imports {name}"
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = full_name(node.func, known)
        if called in FORBIDDEN_CALLS:
            yield node.lineno, f"calls {called}"
        for keyword in node.keywords:
            check = FORBIDDEN_ARGUMENTS.get(keyword.arg or "")
            if check is not None and check(keyword.value):
                yield node.lineno, f"passes {keyword.arg}={ast.unparse(keyword.value)}"


def modules() -> list[pathlib.Path]:
    return sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_does_nothing_unsafe(path: pathlib.Path) -> None:
    module = ".".join(("nova_snap", *path.relative_to(ROOT).with_suffix("").parts))
    found = list(unsafe(path.read_text()))
    if module in XML_READERS:
        found = [each for each in found if "XMLParser" not in each[1]]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.system('ls')",
        "from os import popen as p\np('ls')",
        "import subprocess as s\ns.run('ls', shell=True)",
        "import subprocess as s\ns.run('ls', shell=wanted)",
        "import subprocess\nsubprocess.Popen(['ls'], preexec_fn=print)",
        "import pickle",
        "from pickle import loads",
        "import yaml\nyaml.load(x)",
        "eval('1')",
        "from tempfile import mktemp\nmktemp()",
        "from lxml import etree\netree.XML(x)",
        "from lxml import etree\netree.fromstring(x, parser=f(resolve_entities=True))",
        "import requests\nrequests.get(x, verify=False)",
    ],
)
def test_what_is_unsafe_is_found(source: str) -> None:
    assert list(unsafe(source))
