"""Which records are duplicates of others, and which are so alike that a split must not part them.

The longest come first. A record is a near duplicate where at least I^K of its words are in a longer
one: there it is identical in I of its letters (sourmash's estimate from containment). For groups
its words are held against those of all records of a group together; one that is like two joins
them.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from longseq.data.survey.sketches import FEWEST, K, Sketch
from longseq.data.survey.wish import Wish

HEADER = "identity\tname\tfile\tkept\tof file\n"


@dataclass(frozen=True)
class Duplicate:
    """A record, the one that is kept in its place, and how much of it is identical there."""

    name: str
    file: str
    kept_name: str
    kept_file: str
    identity: float


@dataclass(frozen=True)
class Likeness:
    """Of all records in their order, file by file. first: the place of each file's first record;
    dropped: which are left out; group: of each record, by number; short: records too short to be
    compared by likeness. digests: of each file as it was read for this, "" of a bad one.
    """

    first: list[int]
    dropped: list[bool]
    group: list[int]
    duplicates: list[Duplicate] = field(default_factory=list)
    short: int = 0
    digests: list[str] = field(default_factory=list)

    def text(self) -> str:
        return json.dumps(asdict(self))

    def rows(self) -> str:
        """A table of the duplicates, as PREFIX.duplicates.tsv has it."""
        rows = [
            f"{one.identity:.4f}\t{one.name}\t{one.file}\t{one.kept_name}\t{one.kept_file}\n"
            for one in self.duplicates
        ]
        return HEADER + "".join(rows)

    @staticmethod
    def of(text: str) -> "Likeness":
        values = json.loads(text)
        return Likeness(
            values["first"],
            values["dropped"],
            values["group"],
            [Duplicate(**found) for found in values["duplicates"]],
            values["short"],
            values["digests"],
        )


def compare(
    sketches: Iterable[Sketch], files: int, wish: Wish, digests: Mapping[int, str]
) -> Likeness:
    """Duplicates and groups of all records. digests: of the files, known once all are read. Nothing
    is dropped in favour of what a bad one holds, or of a record that makes no document.
    """
    found = list(sketches)
    first = [0] * files
    for place in range(len(found) - 1, -1, -1):
        first[found[place].file] = place - found[place].number
    same = _Same(found)
    good = [place for place, one in enumerate(found) if digests[one.file] and not one.left_out]
    order = sorted(good, key=lambda place: -found[place].bases)
    kept = same.exact(order) if wish.exact else order
    if wish.near:
        kept = same.near(kept, wish.near)
    groups = _Groups(found)
    if wish.files:
        groups.join_files()
    if wish.alike:
        groups.join_equal()
        groups.join_alike(order, wish.alike)
    short = sum(len(one.hashes) < FEWEST for one in found) if wish.near or wish.alike else 0
    dropped = [False] * len(found)
    for place in same.kept_for:
        dropped[place] = True
    read = [digests[file] for file in range(files)]
    return Likeness(first, dropped, groups.numbers(), same.duplicates(), short, read)


class _Same:
    """kept_for: for each record that is dropped the one kept in its place, and the identity."""

    def __init__(self, sketches: list[Sketch]) -> None:
        self.sketches = sketches
        self.kept_for: dict[int, tuple[int, float]] = {}

    def exact(self, order: list[int]) -> list[int]:
        """Those of `order` whose sequence did not come before, on either strand."""
        seen: dict[bytes, int] = {}
        for place in order:
            kept = seen.setdefault(self.sketches[place].digest, place)
            if kept != place:
                self.kept_for[place] = kept, 1.0
        return [place for place in order if place not in self.kept_for]

    def near(self, order: list[int], identity: float) -> list[int]:
        """Those of `order` that are in none before them at such an identity."""
        index: dict[int, list[int]] = {}  # hash → records that are kept
        for place in order:
            hashes = self.sketches[place].hashes.tolist()
            shared = Counter(kept for one in hashes for kept in index.get(one, ()))
            best, count = max(shared.items(), key=lambda item: (item[1], -item[0]), default=(0, 0))
            if len(hashes) >= FEWEST and count >= identity**K * len(hashes):
                self.kept_for[place] = best, (count / len(hashes)) ** (1 / K)
                continue
            for one in hashes:
                index.setdefault(one, []).append(place)
        return [place for place in order if place not in self.kept_for]

    def duplicates(self) -> list[Duplicate]:
        rows = []
        for place in sorted(self.kept_for):
            kept, identity = self.kept_for[place]
            one, other = self.sketches[place], self.sketches[kept]
            rows.append(Duplicate(one.name, one.path, other.name, other.path, identity))
        return rows


class _Groups:
    """Records that belong together, as a forest of which each tree is a group."""

    def __init__(self, sketches: list[Sketch]) -> None:
        self.sketches = sketches
        self.above = list(range(len(sketches)))

    def root(self, place: int) -> int:
        while self.above[place] != place:
            self.above[place] = place = self.above[self.above[place]]
        return place

    def join(self, one: int, other: int) -> None:
        self.above[self.root(one)] = self.root(other)

    def join_files(self) -> None:
        for place in range(1, len(self.sketches)):
            if self.sketches[place].file == self.sketches[place - 1].file:
                self.join(place, place - 1)

    def join_equal(self) -> None:
        seen: dict[bytes, int] = {}
        for place, one in enumerate(self.sketches):
            self.join(place, seen.setdefault(one.digest, place))

    def join_alike(self, order: list[int], identity: float) -> None:
        index: dict[int, list[int]] = {}  # hash → a record of each group that has it
        for place in order:
            hashes = self.sketches[place].hashes.tolist()
            shared: Counter[int] = Counter()
            for one in hashes:
                if one in index:
                    index[one] = roots = sorted(set(map(self.root, index[one])))
                    shared.update(roots)
            if len(hashes) >= FEWEST:
                for root, count in shared.items():
                    if count >= identity**K * len(hashes):
                        self.join(root, place)
            for one in hashes:
                index.setdefault(one, []).append(place)

    def numbers(self) -> list[int]:
        """The group of each record, numbered as they come."""
        seen: dict[int, int] = {}
        return [seen.setdefault(self.root(place), len(seen)) for place in range(len(self.above))]
