# SPDX-License-Identifier: Apache-2.0
"""Damage to XML that mostly stays XML: a parser that stops at once shows nothing of its caller."""

import contextlib
import copy
import random
from typing import Final

from lxml import etree

from tests.fuzz import mutation

# Of what a domain has, the number-like and the name-like.
_VALUES: Final = (
    *("", " ", "0", "-1", "1", "65536", "0x0000", "0xZZ", "0b1", "1e3", "-0", "+1", "1_0"),
    *("9" * 10, "9" * 19, "9" * 20, "9" * 5000, "-" + "9" * 19, "0x" + "f" * 5000),
    *("yes", "no", "qcow2", "raw", "luks", "rbd", "file", "block", "network", "lxc", "kvm"),
    *("pci", "mdev", "hostdev", "vdpa", "unix", "tcp", "image", "disk", "cdrom", "lun"),
    *("/", "//", "-x", "a/b", "a//b", "pool/image@snap", "a/b/c/d", "../../etc/shadow", "/" * 5000),
    *("3f1c8c1e-5e0b-4b2a-9a44-0d8f2f9f8c11", "{3f1c8c1e5e0b4b2a9a440d8f2f9f8c11}", "root:root"),
    *("+0:+0", "+" + "9" * 30 + ":+0", "nobody:", ":", "+-1:+-1", "KiB", "EiB", "bytes", "B"),
    *("9999-99-99 99:99:99", "0001-01-01 00:00:00", "\u0661\u0662", "\N{GRINNING FACE}", "é" * 300),
    *("a" * 37, "a" * 256, "a" * 70_000, "\u202e", "\ufffd", "@@reference@@", "@@long@@"),
)
_TAGS: Final = (
    *("disk", "source", "driver", "target", "backingStore", "mirror", "encryption", "secret"),
    *("auth", "host", "address", "hostdev", "interface", "mac", "label", "filesystem", "slices"),
    *("domain", "uuid", "name", "memory", "vcpu", "{urn:x}disk"),
)
_ATTRIBUTES: Final = (
    *("type", "dev", "file", "dir", "uuid", "usage", "name", "port", "protocol", "unit", "mode"),
    *("model", "ready", "job", "format", "transport", "socket", "bus", "slot", "{urn:x}type"),
)
_NOVA: Final = (b"libvirt/nova/1.1", b"libvirt/nova/1.0", b"libvirt/nova/2.0", b"libvirt/xml")
_LONG: Final = b"x" * (10 << 20)
# libvirt hands over no longer text (REMOTE_STRING_MAX of its protocol).
_MOST_COPIED: Final = 4 << 20
_DOCTYPES: Final = (
    b'<!DOCTYPE domain [<!ENTITY a "aaaaaaaaaa">' +
    b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9)) +
    b"]>",
    b'<!DOCTYPE domain [<!ENTITY j SYSTEM "file:///etc/passwd">]>',
    b'<!DOCTYPE domain SYSTEM "file:///etc/passwd">',
    b'<!DOCTYPE domain [<!ENTITY % p SYSTEM "http://127.0.0.1:9/x"> %p;]>',
)  # fmt: skip
_HEADS: Final = (
    *(b"<?xml version='1.0' encoding='%s'?>" % name for name in (b"utf-16", b"x", b"latin-1")),
    *(b"\xef\xbb\xbf", b"<?xml version='9.9'?>", b"<!-- x -->", b"<?php x ?>", b"\0", b" "),
)


def of_xml(data: bytes, other: bytes, dice: random.Random) -> bytes:
    """Changes of the tree, then seldom of the text."""
    root, donor = _parse(data), _parse(other)
    if root is None or dice.random() < 0.1:
        return mutation.of_bytes(data, other, dice)
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        # What was read in spite of its faults may have names that cannot be written.
        with contextlib.suppress(ValueError):
            _change(root, root if donor is None else donor, dice)
    try:
        text: bytes = etree.tostring(root)
    except etree.SerialisationError:
        # The same of characters.
        return mutation.of_bytes(data, other, dice)
    text = text.replace(b"@@reference@@", dice.choice((b"&#1;", b"&j;", b"&#x110000;", b"&#65;")))
    if b"@@long@@" in text:
        text = text.replace(b"@@long@@", _LONG[: dice.choice((5 << 20, 10 << 20, 1000))], 1)
    if dice.random() < 0.05:
        text = dice.choice(_DOCTYPES) + text.replace(b"</name>", b"&j;</name>", 1)
    if dice.random() < 0.05:
        text = dice.choice(_HEADS) + text
    if dice.random() < 0.1:
        text = text.replace(dice.choice(_NOVA), dice.choice(_NOVA))
    return text


def _parse(data: bytes) -> etree._Element | None:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True)
    try:
        return etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError, LookupError):
        return None


def _change(root: etree._Element, donor: etree._Element, dice: random.Random) -> None:
    element = _some(root, dice)
    parent = element.getparent()
    kind = dice.randrange(11)
    if kind in (0, 1, 2) and element.attrib:
        element.set(dice.choice(element.keys()), dice.choice(_VALUES))
    elif kind in (3, 4):
        element.text = dice.choice(_VALUES)
    elif kind == 5:
        element.set(dice.choice(_ATTRIBUTES), dice.choice(_VALUES))
    elif kind == 6 and element.attrib:
        del element.attrib[dice.choice(element.keys())]
    elif kind == 7 and parent is not None:
        parent.remove(element)
    elif kind == 8:
        element.tag = dice.choice(_TAGS)
    elif kind == 9 and parent is not None:
        # Copies of copies would fill the memory before anything is run.
        room = _MOST_COPIED // len(etree.tostring(element))
        for _ in range(min(dice.choice((1, 1, 2, 300)), room)):
            parent.append(copy.deepcopy(element))
    else:
        _transplant(element, _some(donor, dice), dice)


def _transplant(element: etree._Element, part: etree._Element, dice: random.Random) -> None:
    """A part of another, once, or as its own child many times."""
    inner = element
    for _ in range(dice.choice((1, 1, 1, 10, 260))):
        grown = copy.deepcopy(part) if inner is element else etree.Element(part.tag, part.attrib)
        inner.append(grown)
        inner = grown


def _some(root: etree._Element, dice: random.Random) -> etree._Element:
    found = [element for element in root.iter() if isinstance(element.tag, str)]
    # Not to grow from round to round.
    return dice.choice(found[:2000])
