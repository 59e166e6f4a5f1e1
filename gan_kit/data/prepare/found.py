"""The files of a listing in columns: a million of them are tens of megabytes, as objects they would be hundreds."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar, overload

from gan_kit.data.prepare.types import Found

__all__ = ["FoundFiles"]

T = TypeVar("T")


class FoundFiles(Sequence[Found]):
    """Found files of one source, each made anew when it is asked for: some 40 bytes and its name.

    source: the folder that the names of files count from; those in archives have a place of their own
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self._text = bytearray()  # a name, then its member's
        self._ends = array("Q")  # two a file
        self._sizes, self._times = array("Q"), array("q")
        self._kind, self._place = array("H"), array("I")
        self._kinds: list[str] = []
        self._places: list[Path | None] = [None]

    def add(self, name: str, kind: str, size: int, mtime_ns: int) -> None:
        """A file under the source."""
        self._add(name, kind, size, mtime_ns, None, "")

    def add_member(self, name: str, kind: str, size: int, mtime_ns: int, archive: Path, member: str) -> None:
        self._add(name, kind, size, mtime_ns, archive, member)

    def _add(self, name: str, kind: str, size: int, mtime_ns: int, place: Path | None, member: str) -> None:
        for word in (name, member):
            self._text += _coded(word)
            self._ends.append(len(self._text))
        self._sizes.append(size)
        self._times.append(mtime_ns)
        self._kind.append(_number(self._kinds, kind))
        self._place.append(_number(self._places, place))

    def sort(self) -> None:
        """By name, as Python sorts strings."""
        order = sorted(range(len(self)), key=self._name)
        text, ends = bytearray(), array("Q")
        for i in order:
            start, middle, stop = self._span(i)
            text += self._text[start:stop]
            ends.extend((len(text) - stop + middle, len(text)))
        self._text, self._ends = text, ends
        for column in ("_sizes", "_times", "_kind", "_place"):
            old = getattr(self, column)
            setattr(self, column, array(old.typecode, (old[i] for i in order)))

    def name(self, i: int) -> str:
        return _decoded(self._name(i))

    def names(self) -> Iterator[str]:
        return map(self.name, range(len(self)))

    def sizes(self) -> Sequence[int]:
        return self._sizes

    def find(self, name: str) -> int | None:
        """Its place, after `sort`; None for a name that is not among them"""
        coded = _coded(name)
        at = bisect_left(range(len(self)), coded, key=self._name)
        return at if at < len(self) and self._name(at) == coded else None

    def any_member(self) -> bool:
        return len(self._places) > 1

    def __len__(self) -> int:
        return len(self._sizes)

    @overload
    def __getitem__(self, i: int) -> Found: ...
    @overload
    def __getitem__(self, i: slice) -> list[Found]: ...
    def __getitem__(self, i: int | slice) -> Found | list[Found]:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        i %= len(self)
        _, middle, stop = self._span(i)
        name, place = self.name(i), self._places[self._place[i]]
        member = None if place is None else _decoded(self._text[middle:stop])
        path = self.source / name if place is None else place
        return Found(name, path, member, self._kinds[self._kind[i]], self._sizes[i], self._times[i])

    def _name(self, i: int) -> bytes:
        start, middle, _ = self._span(i)
        return bytes(self._text[start:middle])

    def _span(self, i: int) -> tuple[int, int, int]:
        return self._ends[2 * i - 1] if i else 0, self._ends[2 * i], self._ends[2 * i + 1]


def _number(known: list[T], one: T) -> int:
    """Its place in a list of few, to which it is added; what came last comes again"""
    if known and known[-1] == one:
        return len(known) - 1
    if one not in known:
        known.append(one)
    return known.index(one)


# So coded, bytes sort as the strings do, those too that stand for bytes that are no UTF-8


def _coded(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _decoded(name: bytes | bytearray) -> str:
    return name.decode("utf-8", "surrogatepass")
