"""How a preparation goes about it; recipe.py says what becomes of the letters."""

from dataclasses import dataclass, field

from longseq.data.prepare.recipe import Recipe
from longseq.data.sources.tables import Columns

BUILT_IN = ("auto", "record", "file")  # of group_by; anything else is the name of a fact
CHUNK = 1 << 20  # bytes; calling genes takes a second for as many, so that workers stay busy


@dataclass(frozen=True)
class Settings:
    """recipe: how letters become tokens. workers: 0 for as many as make it faster.

    group_by: what a split must not divide, record, file or all that have the same value of a fact;
    auto: records, where they are enough.
    skip_bad: leave out files that cannot be read. allow_unknown: the part of a text's letters that
    a text tokenizer may have no token for. columns: what to read of tables.
    annotation, regions: GFF and BED files of features. metadata: a table about the records.
    """

    recipe: Recipe = field(default_factory=Recipe)
    workers: int = 1
    group_by: str = "auto"
    chunk_bytes: int = 0
    skip_bad: bool = False
    allow_unknown: float = 0.001
    columns: Columns = field(default_factory=Columns)
    annotation: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    metadata: str = ""

    @property
    def chunk(self) -> int:
        return self.chunk_bytes or CHUNK
