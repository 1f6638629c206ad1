# SPDX-License-Identifier: Apache-2.0
"""Where the process of a WSGI server finds its configuration."""

import os
import pathlib
import subprocess
import sys

import pytest

from nova_snap.wsgi import configuration

DIRECTORY = configuration.DIRECTORY
FILES = configuration.FILES


@pytest.fixture
def directory(tmp_path: pathlib.Path) -> pathlib.Path:
    for name in ("nova-snap.conf", "mine.conf"):
        (tmp_path / name).write_text("[DEFAULT]\nhost = here\n")
    return tmp_path


@pytest.mark.parametrize("environ", [{}, {DIRECTORY: ""}, {FILES: " ; "}])
def test_where_every_process_looks(environ: dict[str, str]) -> None:
    assert configuration.config_files(environ) is None


def test_a_directory_of_its_own(directory: pathlib.Path) -> None:
    found = configuration.config_files({DIRECTORY: str(directory)})
    assert found == [str(directory / "nova-snap.conf")]
    (directory / "nova-snap-api.conf").touch()
    found = configuration.config_files({DIRECTORY: str(directory)})
    assert found == [str(directory / "nova-snap.conf"), str(directory / "nova-snap-api.conf")]


def test_files_of_that_directory_and_of_others(
    directory: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other") / "secrets.conf"
    other.touch()
    found = configuration.config_files({DIRECTORY: str(directory), FILES: f"mine.conf;{other}"})
    assert found == [str(directory / "mine.conf"), str(other)]


def test_what_is_named_must_exist(directory: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.conf, which is not a file"):
        configuration.config_files({DIRECTORY: str(directory), FILES: "missing.conf"})
    with pytest.raises(FileNotFoundError, match="which is not a directory"):
        configuration.config_files({DIRECTORY: str(directory / "missing")})


ANSWER_ONE_REQUEST = """
from nova_snap.wsgi.api import application
status = []
environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "SERVER_NAME": "localhost",
           "SERVER_PORT": "80", "wsgi.url_scheme": "http"}
body = b"".join(application(environ, lambda line, headers, info=None: status.append(line)))
print(status[0], body.decode())
"""


def test_a_server_needs_nothing_but_the_environment(tmp_path: pathlib.Path) -> None:
    """What any WSGI server does: import the module and call the application."""
    (tmp_path / "nova-snap.conf").write_text(
        f"[DEFAULT]\nstate_path = {tmp_path}\ntransport_url = fake://\n"
        "[api]\ncompute_link_prefix = https://from-the-file.example.org\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", ANSWER_ONE_REQUEST],
        env={**os.environ, DIRECTORY: str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("200 OK ")
    assert "https://from-the-file.example.org/v2.1/" in done.stdout
