# SPDX-License-Identifier: Apache-2.0
"""tools/install-deps, with an apt-get that only takes notes."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fixtures.cache import REPOSITORY

POLICY = Path("/usr/sbin/policy-rc.d")

APT_GET = """\
#!/bin/sh
echo "$@" >> "$NOTES"
case "$*" in
*install*) test -e /usr/sbin/policy-rc.d || { echo "services would start"; exit 1; } ;;
esac
if [ -s "$FAILURES" ]; then
    head -n 1 "$FAILURES"
    sed -i 1d "$FAILURES"
    exit 100
fi
"""


@dataclasses.dataclass
class Sandbox:
    """A copy of the tool with a list of its own and a stand-in for apt-get."""

    directory: Path

    def packages(self, *lines: str) -> None:
        (self.directory / "bindep.txt").write_text("\n".join(lines) + "\n")

    def fail_with(self, *messages: str) -> None:
        (self.directory / "failures").write_text("".join(f"{message}\n" for message in messages))

    def run(self, *arguments: str, wait: int = 5) -> subprocess.CompletedProcess[str]:
        env = {
            **os.environ,
            "PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}",
            "NOTES": str(self.directory / "notes"),
            "FAILURES": str(self.directory / "failures"),
            "NOVA_SNAP_APT_WAIT": str(wait),
        }
        return subprocess.run(
            [self.directory / "tools/install-deps", *arguments],
            env=env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    @property
    def calls(self) -> list[str]:
        notes = self.directory / "notes"
        return notes.read_text().splitlines() if notes.exists() else []


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    for name in ("tools", "bin"):
        (tmp_path / name).mkdir()
    shutil.copy(REPOSITORY / "tools/install-deps", tmp_path / "tools")
    shutil.copy(REPOSITORY / "bindep.txt", tmp_path)
    for name, script in (("apt-get", APT_GET), ("sudo", '#!/bin/sh\nexec "$@"\n')):
        stand_in = tmp_path / "bin" / name
        stand_in.write_text(script)
        stand_in.chmod(0o755)
    return Sandbox(tmp_path)


@pytest.mark.parametrize("profile", ["demo", "test"])
def test_where_all_is_there_apt_is_not_asked(sandbox: Sandbox, profile: str) -> None:
    done = sandbox.run(profile)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sandbox.calls == []


def test_what_is_missing_is_installed_and_no_more(sandbox: Sandbox) -> None:
    sandbox.packages(
        "# a comment",
        "dpkg [platform:dpkg]",
        "no-such-always [platform:dpkg]  # needed",
        "no-such-bare",
        "no-such-both [platform:dpkg demo test]",
        "no-such-test [platform:dpkg test]",
    )
    policy = POLICY.read_text() if POLICY.exists() else None
    done = sandbox.run("demo")
    assert done.returncode == 0, done.stderr
    update, install = sandbox.calls
    assert update.endswith(" update")
    assert install.endswith(
        " install --yes --no-install-recommends no-such-always no-such-bare no-such-both"
    )
    assert (POLICY.read_text() if POLICY.exists() else None) == policy


def test_a_locked_apt_is_waited_for(sandbox: Sandbox) -> None:
    sandbox.packages("no-such-package")
    sandbox.fail_with("E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1")
    assert sandbox.run().returncode == 0
    assert [call.split()[-1] for call in sandbox.calls] == ["update", "update", "no-such-package"]


def test_a_lock_that_is_kept_ends_it(sandbox: Sandbox) -> None:
    sandbox.packages("no-such-package")
    sandbox.fail_with(*["E: Could not get lock /var/lib/dpkg/lock"] * 10)
    done = sandbox.run(wait=1)
    assert done.returncode == 1
    assert "another process has kept apt's lock for 1 s" in done.stderr


def test_an_error_of_apt_is_shown(sandbox: Sandbox) -> None:
    sandbox.packages("no-such-package")
    sandbox.fail_with("E: no network here")
    done = sandbox.run()
    assert done.returncode == 1
    assert "no network here" in done.stderr
    assert "apt-get update failed" in done.stderr


def test_an_unknown_profile_is_refused(sandbox: Sandbox) -> None:
    done = sandbox.run("nonsense")
    assert (done.returncode, sandbox.calls) == (1, [])
    assert "'nonsense'; known are demo, cloud and test" in done.stderr
