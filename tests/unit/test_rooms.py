# SPDX-License-Identifier: Apache-2.0
"""The borders of the rooms: who may import whom."""

import ast
import pathlib
import subprocess
import sys

import pytest

import nova_snap

ROOT = pathlib.Path(nova_snap.__file__).parent

# Constants and the context belong to no room; the states of an instance are constants too.
COMMON = {
    "nova_snap",
    "nova_snap.context",
    "nova_snap.exception",
    "nova_snap.compute.power_state",
    "nova_snap.compute.task_states",
    "nova_snap.compute.vm_states",
}

# What each room may import, besides itself and what is common.
ALLOWED = {
    "nova_snap.conf": set(),
    "nova_snap.context": {"nova_snap.db.session"},
    "nova_snap.exception": set(),
    "nova_snap.db": set(),
    "nova_snap.objects": {"nova_snap.db", "nova_snap.compute.transitions"},
    "nova_snap.identity": set(),
    "nova_snap.image": {"nova_snap.identity"},
    "nova_snap.volume": {"nova_snap.identity"},
    "nova_snap.stream": set(),
    "nova_snap.virt": set(),
    "nova_snap.virt.libvirt": {"nova_snap.virt.driver"},
    "nova_snap.virt.libvirt.snapshot": {
        "nova_snap.stream",
        "nova_snap.virt.driver",
        "nova_snap.virt.libvirt",
    },
    "nova_snap.compute": {
        "nova_snap.objects",
        "nova_snap.virt.driver",
        "nova_snap.db.session",
        "nova_snap.volume.model",
    },
    "nova_snap.api": {
        "nova_snap.compute",
        "nova_snap.db.session",
        "nova_snap.identity",
        "nova_snap.objects",
    },
    "nova_snap.wsgi": {"nova_snap.cmd"},
    "nova_snap.cmd": {
        "nova_snap.api",
        "nova_snap.compute",
        "nova_snap.conf",
        "nova_snap.db",
        "nova_snap.image",
        "nova_snap.objects",
        "nova_snap.virt",
        "nova_snap.volume",
    },
}

# Libraries that only one room may know.
LIBRARIES = {
    "webob": {"nova_snap.api"},
    "jsonschema": {"nova_snap.api"},
    "oslo_policy": {"nova_snap.api"},
    "libvirt": {"nova_snap.virt.libvirt"},
    "glanceclient": {"nova_snap.image"},
    "cinderclient": {"nova_snap.volume"},
    "keystoneauth1": {"nova_snap.identity", "nova_snap.conf"},
    "keystonemiddleware": {"nova_snap.api"},
    "sqlalchemy": {"nova_snap.db"},
    "alembic": {"nova_snap.db"},
    "oslo_messaging": {"nova_snap.compute", "nova_snap.cmd"},
    "kombu": {"nova_snap.compute"},
    "cheroot": {"nova_snap.cmd"},
    "prometheus_client": {"nova_snap.api"},
    "zstandard": {"nova_snap.stream"},
}


def modules() -> list[tuple[str, pathlib.Path]]:
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = ("nova_snap", *path.relative_to(ROOT).with_suffix("").parts)
        name = ".".join(parts).removesuffix(".__init__")
        found.append((name, path))
    return found


def imports(path: pathlib.Path) -> set[str]:
    """Every module that the file imports, wherever in the file it does."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, f"relative import in {path}"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if is_module(full) else node.module)
    return found


def is_module(name: str) -> bool:
    path = ROOT.parent / name.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def within(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def room_of(name: str) -> str:
    rooms = [room for room in ALLOWED if within(name, room)]
    return max(rooms, key=len, default="nova_snap")


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: str(value).split("/")[-1])
def test_a_module_imports_only_what_its_room_may(name: str, path: pathlib.Path) -> None:
    room = room_of(name)
    if room == "nova_snap":
        assert name == "nova_snap", f"{name} stands in no room"
        return
    for used in sorted(imports(path)):
        if used.startswith("nova_snap"):
            fine = used in COMMON or any(within(used, r) for r in ALLOWED[room] | {room})
            assert fine, f"{name} imports {used}, which {room} may not know"
        for library, owners in LIBRARIES.items():
            if within(used, library):
                known = any(within(room, owner) for owner in owners)
                assert known, f"{name} imports {library}, which only {owners} may know"


def test_every_room_is_there() -> None:
    names = {name for name, _ in modules()}
    assert set(ALLOWED) <= names


@pytest.mark.parametrize("module", ["all", "api", "compute", "manage", "status"])
def test_no_entry_point_imports_eventlet(module: str) -> None:
    """The import is poisoned before anything else happens: whoever tries it, fails."""
    program = (
        "import sys, types\n"
        "class Poison:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('eventlet', 'greenio'):\n"
        "            print('imported', name, file=sys.stderr)\n"
        "            raise SystemExit(3)\n"
        "sys.meta_path.insert(0, Poison())\n"
        f"import nova_snap.cmd.{module}\n"
        "from oslo_service import backend\n"
        "assert backend.get_backend_type() is backend.BackendType.THREADING\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
