# SPDX-License-Identifier: Apache-2.0
"""Errors: their data, their messages, and what of them a client may read."""

import inspect

import pytest

from nova_snap import exception

CLASSES = [
    value
    for _, value in inspect.getmembers(exception, inspect.isclass)
    if issubclass(value, exception.NovaSnapError)
]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_message_can_be_formatted_from_the_declared_data(
    kind: type[exception.NovaSnapError],
) -> None:
    declared = {
        name: 1.0 if name == "seconds" else f"<{name}>"
        for base in kind.__mro__
        for name in inspect.get_annotations(base)
        if name not in ("msg", "user_msg", "unforeseen")
    }
    error = kind(**declared)
    assert str(error)
    assert error.for_user()
    for name, value in declared.items():
        assert getattr(error, name) == value


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_class_is_in_the_tree_of_the_docstring(kind: type[exception.NovaSnapError]) -> None:
    assert exception.__doc__ is not None
    words = exception.__doc__.replace(",", " ").split()
    assert kind.__name__ in words


def test_a_client_does_not_read_paths_and_endpoints() -> None:
    cause = exception.QemuImgFailed(command="convert", exit_code=1, stderr="/var/lib/secret")
    error = exception.SnapshotFailed(
        instance_uuid="i", image_id="m", method="mirror", phase="image_uploading", reason=str(cause)
    )
    error.__cause__ = cause
    assert "/var/lib/secret" in str(error)
    assert error.for_user() == (
        "Snapshot by method mirror failed during image_uploading: "
        "The disk could not be converted; the log of the compute host says why."
    )


def test_a_client_reads_nothing_of_an_unforeseen_error() -> None:
    error = exception.SnapshotFailed(
        instance_uuid="i", image_id="m", method="mirror", phase="image_uploading", reason="pw=1"
    )
    error.__cause__ = ValueError("pw=1")
    assert "pw=1" not in error.for_user()


FORGED = "x\n2026-11-29 21:00:00 INFO all is well\r\x1b[2J\u2028\udc80é"
SHOWN = r"x\n2026-11-29 21:00:00 INFO all is well\r\x1b[2J\u2028\udc80é"


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_what_is_in_a_message_cannot_make_a_line_of_its_own(
    kind: type[exception.NovaSnapError],
) -> None:
    declared = {
        name: 1.0 if name == "seconds" else FORGED
        for base in kind.__mro__
        for name in inspect.get_annotations(base)
        if name not in ("msg", "user_msg", "unforeseen", "warnings")
    }
    error = kind(**declared)
    assert str(error).isprintable()
    assert error.for_user().isprintable()


def test_it_is_shown_once_and_kept_as_it_is() -> None:
    cause = exception.UnsafeDisk(path="/d", reason=FORGED)
    error = exception.SnapshotFailed(
        instance_uuid="i", image_id="m", method="mirror", phase="p", reason=str(cause)
    )
    assert str(cause) == f"Disk /d is refused: {SHOWN}"
    assert str(error).count(SHOWN) == 1
    assert cause.reason == FORGED  # type: ignore[attr-defined]
