# SPDX-License-Identifier: Apache-2.0
"""Names, and the messages of what a schema refuses."""

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_snap.api import errors, validation
from nova_snap.api.schemas import servers, types


@pytest.mark.parametrize(
    "name",
    ["a", "a b", "a\u00a0b", "\u00e9", "e\u0301", "\u0428", "\ufffd", "-", "'\"\\", "a" * 255],
)
def test_a_name(name: str) -> None:
    assert validation.is_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *(" a", "a ", " ", "\u3000a", "a\t", "a\n", "\x00", "\x7f", "\u200b", "\u2028", "\ufeff"),
        *("\ue000", "\uffff", "\U0001f600", "\ud800"),
    ],
)
def test_no_name(name: str) -> None:
    assert not validation.is_name(name)


@given(st.text(max_size=20))
def test_a_name_can_be_printed_and_stored(name: str) -> None:
    if validation.is_name(name):
        assert all(ord(character) < 0xFFFF for character in name)
        assert name == name.strip()
        assert not any(unicodedata.category(character)[0] == "C" for character in name)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_whatever_is_sent_is_accepted_or_refused(value: object) -> None:
    """Never another error, and never a long message."""
    for body in ({"createImage": value}, {"createImage": {"name": "x", "metadata": value}}):
        try:
            validation.check_body(body, servers.CREATE_IMAGE)
        except errors.ValidationError as error:
            message = str(error)
        else:
            continue
        assert 0 < len(message) < 700


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (
            {"a/b": "v"},
            "Invalid input for field/attribute metadata. Value: {'a/b': 'v'}. "
            "'a/b' does not match any of the regexes",
        ),
        ({"a": 1}, "Invalid input for field/attribute a. Value: 1. 1 is not of type 'string'"),
    ],
)
def test_the_message_names_the_field_and_its_value(metadata: object, message: str) -> None:
    body = {"createImage": {"name": "x", "metadata": metadata}}
    with pytest.raises(errors.ValidationError) as error:
        validation.check_body(body, servers.CREATE_IMAGE)
    assert str(error.value).startswith(message)


def test_a_number_in_a_query_is_short() -> None:
    schema = types.closed({"limit": types.QUERY_NUMBER}, required=[])
    validation.check_query({"limit": ["0123456789"]}, schema)
    for bad in ("01234567890", "-1", "1.0", "", "1\n", "\u0661"):
        with pytest.raises(errors.ValidationError, match="query parameters limit"):
            validation.check_query({"limit": [bad]}, schema)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["(?i)" + "[!-\uffff]" * 400], "(at most 255 characters)"),
        (["(?i)" + "[!-\uffff]" * 49 + each for each in "abcdef"], "(at most 5 values)"),
        (["(?i)" + "[!-\uffff]" * 49 + each for each in "ghijk"], None),
    ],
    ids=["long", "many", "allowed"],
)
def test_an_expression_costs_little_to_check(values: list[str], message: str | None) -> None:
    """To compile each of these takes half a second and more, while nobody else is served."""
    schema = types.closed({"name": types.QUERY_REGEX}, required=[])
    began = time.thread_time()
    if message is None:
        validation.check_query({"name": values}, schema)
    else:
        with pytest.raises(errors.ValidationError) as error:
            validation.check_query({"name": values}, schema)
        assert message in str(error.value)
        assert len(str(error.value)) < 700
    assert time.thread_time() - began < 1


FORMATS = {
    "uuid": (["00000000-0000-0000-0000-000000000001"], ["web", ""]),
    "date-time": (["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000006"], ["now", "", "9" * 40]),
    "uri": (["http://a:1/b"], ["/a", "a", "http://", "http://a b"]),
    "regex": ([".*"], ["", "[", "("]),
    "base64": (["YQ==", ""], ["a", "@@@@"]),
    "ipv4": (["192.0.2.1"], ["192.0.2", "::1"]),
    "ipv6": (["::1", "::ffff:192.0.2.1"], ["192.0.2.1", "", "fe80::1%eth0"]),
    "number": (["0", "007", "2147483647"], ["", "-1", "2147483648", "1.0", "x", "\u0661"]),
    "positive-number": (["1", "01"], ["0", "00", ""]),
    "printable": (["", " a b ", "\u0428"], ["a\nb", "\0", "\U0001f600"]),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_format(name: str) -> None:
    good, bad = FORMATS[name]
    assert [value for value in good if not validation.FORMATS.conforms(value, name)] == []
    assert [value for value in bad if validation.FORMATS.conforms(value, name)] == []
    # What is no string is for "type" to refuse.
    assert validation.FORMATS.conforms(None, name)
