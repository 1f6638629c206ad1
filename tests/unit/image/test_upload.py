# SPDX-License-Identifier: Apache-2.0
"""The reader that an upload goes through."""

import hashlib
import io

import pytest

from nova_snap.image.upload import PIECE, Body, HashingReader


def test_what_is_read_is_hashed() -> None:
    reader = HashingReader(io.BytesIO(b"abcdef"), 6)
    reader.rewind()
    assert reader.read(4) == b"abcd"
    assert not reader.complete
    assert reader.read(4) == b"ef"
    assert reader.complete
    assert reader.read(4) == b""
    assert reader.hexdigest() == hashlib.sha512(b"abcdef").hexdigest()


def test_a_rewind_begins_again() -> None:
    reader = HashingReader(io.BytesIO(b"abcdef"), 6)
    reader.rewind()
    reader.read(3)
    reader.rewind()
    assert reader.read() == b"abcdef"
    assert reader.hexdigest() == hashlib.sha512(b"abcdef").hexdigest()


def test_no_more_than_the_size_is_read() -> None:
    reader = HashingReader(io.BytesIO(b"abcdef"), 4)
    reader.rewind()
    assert reader.read() == b"abcd"
    assert reader.complete


def test_a_file_that_is_too_short_is_an_error() -> None:
    reader = HashingReader(io.BytesIO(b"abc"), 6)
    reader.rewind()
    reader.read(3)
    with pytest.raises(EOFError, match="3 bytes before its size of 6"):
        reader.read(1)


def test_what_nobody_wants_to_compare_is_not_hashed() -> None:
    reader = HashingReader(io.BytesIO(b"abcdef"), 6, hashing=False)
    reader.rewind()
    assert reader.read() == b"abcdef"
    assert reader.complete
    assert reader.hexdigest() is None


def test_a_body_is_sent_in_large_pieces() -> None:
    data = bytes(2 * PIECE + 1)
    reader = HashingReader(io.BytesIO(data), len(data))
    reader.rewind()
    body = Body(reader)
    assert len(body) == len(data)
    assert not hasattr(body, "read")
    assert [len(piece) for piece in body] == [PIECE, PIECE, 1]
    assert reader.hexdigest() == hashlib.sha512(data).hexdigest()
