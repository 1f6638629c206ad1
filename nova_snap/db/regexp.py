# SPDX-License-Identifier: Apache-2.0
"""Regular expressions for SQLite, which has none of its own, in time that has a bound.

Python's ``re`` tries one way after the other. For ``(a+)+$`` and a name of thirty ``a`` these are
billions, and no other thread runs meanwhile. What could come to that is matched here as an
automaton, which goes through the text once, in all ways at the same time. So is what takes ``re``
long to compile: it goes through every character of a class.
"""

import functools
import re
from collections.abc import Callable, Iterable
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any, Final

_MOST_STATES: Final = 500
_MOST_REPEATS: Final = 1000
# As many as an expression of the API's length can have without repetitions.
_MOST_STEPS: Final = 255
# Characters of a class that re may compile: as many as it has a table for in any case.
_MOST_CHARACTERS: Final = 256
_FLAGS: Final = re.IGNORECASE | re.UNICODE | re.VERBOSE | re.DOTALL
_REPEATS: Final = (sre.MAX_REPEAT, sre.MIN_REPEAT)

Search = Callable[[str], bool]
_Test = Callable[[str], bool]
# What leads on: a test of the next character, an assertion about the place, or nothing at all; and
# the states that it leads to. Without any it is the end.
_State = tuple[str, Any, tuple[int, ...]]


class UnsupportedExpression(Exception):
    """A regular expression that cannot be matched within a bound."""


def check(expression: str) -> None:
    """Whether there is a meaning to it, for any database; it is not compiled.

    :raises ValueError: with what is wrong.
    """
    try:
        _parser.parse(expression)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from error


@functools.lru_cache(maxsize=64)
def compiled(expression: str) -> Search:
    """What tells whether the expression is found anywhere in a text.

    :param expression: one that :func:`check` lets through.
    :raises UnsupportedExpression: for one that is too long, or looks back at what it has matched.
    """
    tree = _parser.parse(expression)
    try:
        choices = _choices(tree, repeated=False)
        if choices <= 1 and _steps(tree) <= _MOST_STEPS:
            # One choice is tried at each place, at worst: a few ten thousand times all the steps,
            # most of which the first character ends.
            found = re.compile(expression).search
            return lambda text: found(text) is not None
        return _Automaton(tree).search
    except RecursionError:
        raise UnsupportedExpression("it is nested too deep") from None
    except re.error as error:
        raise UnsupportedExpression(str(error)) from error


def _choices(items: Iterable[tuple[Any, Any]], *, repeated: bool) -> int:
    """How many choices there are on the way; many, if one comes again and again, or if it is
    one of very many characters."""
    found = 0
    for kind, given in items:
        if kind is sre.BRANCH:
            found += 1 + repeated
            found += sum(_choices(branch, repeated=repeated) for branch in given[1])
        elif kind in _REPEATS or kind is sre.POSSESSIVE_REPEAT:
            least, most, body = given
            if most is sre.MAXREPEAT or most > least:
                found += 1 + repeated
            if least > _MOST_REPEATS:
                raise UnsupportedExpression(f"it repeats something more than {_MOST_REPEATS} times")
            found += _choices(body, repeated=True)
        elif kind is sre.SUBPATTERN:
            found += _choices(given[3], repeated=repeated)
        elif kind in (sre.ASSERT, sre.ASSERT_NOT):
            found += _choices(given[1], repeated=True)
        elif kind is sre.ATOMIC_GROUP:
            found += _choices(given, repeated=repeated)
        elif kind is sre.GROUPREF_EXISTS or (kind is sre.IN and _size(given) > _MOST_CHARACTERS):
            found += 2
    return found


def _steps(items: Iterable[tuple[Any, Any]]) -> int:
    """How many steps it takes to go through, with what is repeated as often as it must be.

    A repetition of what takes no character, such as ``(?:(?:\\b){1000}){1000}``, is gone through
    to its end at any place, and ``re`` keeps a note of each time.
    """
    found = 0
    for kind, given in items:
        if kind in _REPEATS or kind is sre.POSSESSIVE_REPEAT:
            least, _most, body = given
            found += 1 + least * _steps(body)
        elif kind is sre.BRANCH:
            found += sum(_steps(branch) for branch in given[1])
        elif kind is sre.SUBPATTERN:
            found += _steps(given[3])
        elif kind in (sre.ASSERT, sre.ASSERT_NOT):
            found += 1 + _steps(given[1])
        elif kind is sre.ATOMIC_GROUP:
            found += _steps(given)
        else:
            found += 1
    return found


def _size(members: Iterable[tuple[Any, Any]]) -> int:
    """How many characters there are in the ranges of a class."""
    ranges = (given for kind, given in members if kind is sre.RANGE)
    return sum(last - first + 1 for first, last in ranges)


class _Automaton:
    """:param tree: of Python's own parser."""

    def __init__(self, tree: Any) -> None:
        flags = tree.state.flags
        if flags & ~_FLAGS:
            raise UnsupportedExpression("its flags are not supported")
        self._any_line = bool(flags & re.DOTALL)
        self._folded = bool(flags & re.IGNORECASE)
        self._states: list[_State] = [("end", None, ())]
        self._start = self._sequence(tree, 0)

    def search(self, text: str) -> bool:
        text = text.lower() if self._folded else text
        current: set[int] = set()
        for place in range(len(text) + 1):
            current = self._reached({*current, self._start}, text, place)
            if 0 in current:
                return True
            if place < len(text):
                character = text[place]
                current = {
                    following
                    for kind, test, then in map(self._states.__getitem__, current)
                    if kind == "character" and test(character)
                    for following in then
                }
        return False

    def _reached(self, states: set[int], text: str, place: int) -> set[int]:
        """With all that is reached without a character."""
        found: set[int] = set()
        left = list(states)
        while left:
            state = left.pop()
            if state in found:
                continue
            found.add(state)
            kind, test, then = self._states[state]
            if kind == "choice" or (kind == "place" and test(text, place)):
                left += then
        return found

    # -- from the tree ---------------------------------------------------------------------

    def _add(self, kind: str, test: Any, *then: int) -> int:
        if len(self._states) >= _MOST_STATES:
            raise UnsupportedExpression("it is too long")
        self._states.append((kind, test, then))
        return len(self._states) - 1

    def _sequence(self, items: Iterable[tuple[Any, Any]], then: int) -> int:
        """:returns: the state that leads through all of them to ``then``."""
        for kind, given in reversed(list(items)):
            then = self._item(kind, given, then)
        return then

    def _item(self, kind: Any, given: Any, then: int) -> int:
        if kind in _REPEATS:
            least, most, body = given
            return self._repeat(least, most, body, then)
        if kind is sre.BRANCH:
            branches = [self._sequence(branch, then) for branch in given[1]]
            return self._add("choice", None, *branches)
        if kind is sre.SUBPATTERN and not given[1] and not given[2]:
            return self._sequence(given[3], then)
        if kind is sre.AT and given in _PLACES:
            return self._add("place", _PLACES[given], then)
        return self._add("character", self._test(kind, given), then)

    def _repeat(self, least: int, most: Any, body: Any, then: int) -> int:
        body = list(body)
        if not body:
            return then
        if most is sre.MAXREPEAT:
            loop = self._add("choice", None)
            self._states[loop] = ("choice", None, (self._sequence(body, loop), then))
            state = loop
        else:
            state = then
            for _ in range(most - least):
                state = self._add("choice", None, self._sequence(body, state), then)
        for _ in range(least):
            before = state
            state = self._sequence(body, state)
            if state == before:
                break
        return state

    def _test(self, kind: Any, given: Any) -> _Test:
        if kind is sre.ANY:
            return lambda character: self._any_line or character != "\n"
        if kind is sre.LITERAL:
            wanted = self._fold(chr(given))
            return lambda character: character == wanted
        if kind is sre.NOT_LITERAL:
            unwanted = self._fold(chr(given))
            return lambda character: character != unwanted
        if kind is sre.RANGE:
            first, last = given
            return lambda character: self._within(character, first, last)
        if kind is sre.CATEGORY and given in _CATEGORIES:
            return _CATEGORIES[given]
        if kind is sre.IN:
            negated = given[0][0] is sre.NEGATE
            tests = [self._test(*one) for one in given[negated:]]
            return lambda character: negated != any(test(character) for test in tests)
        raise UnsupportedExpression(f"{str(kind).lower()} is not supported beside repetitions")

    def _fold(self, character: str) -> str:
        return character.lower() if self._folded else character

    def _within(self, character: str, first: int, last: int) -> bool:
        both = (character, character.upper()) if self._folded else (character,)
        return any(len(one) == 1 and first <= ord(one) <= last for one in both)


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _is_boundary(text: str, place: int) -> bool:
    before = place > 0 and _is_word(text[place - 1])
    after = place < len(text) and _is_word(text[place])
    return before != after


_PLACES: Final[dict[Any, Callable[[str, int], bool]]] = {
    sre.AT_BEGINNING: lambda _text, place: place == 0,
    sre.AT_BEGINNING_STRING: lambda _text, place: place == 0,
    sre.AT_END: lambda text, place: text[place:] in ("", "\n"),
    sre.AT_END_STRING: lambda text, place: place == len(text),
    sre.AT_BOUNDARY: _is_boundary,
    sre.AT_NON_BOUNDARY: lambda text, place: not _is_boundary(text, place),
}
_CATEGORIES: Final[dict[Any, _Test]] = {
    sre.CATEGORY_DIGIT: str.isdecimal,
    sre.CATEGORY_NOT_DIGIT: lambda character: not character.isdecimal(),
    sre.CATEGORY_SPACE: str.isspace,
    sre.CATEGORY_NOT_SPACE: lambda character: not character.isspace(),
    sre.CATEGORY_WORD: _is_word,
    sre.CATEGORY_NOT_WORD: lambda character: not _is_word(character),
}
