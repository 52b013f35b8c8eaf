"""How a preparation goes about it; recipe.py says what becomes of the letters."""

from dataclasses import dataclass, field

from longseq.data.prepare.recipe import Recipe
from longseq.data.sources.tables import Columns
from longseq.data.survey.wish import LIKE

BUILT_IN = ("auto", "record", "file", *LIKE)  # of group_by; else the name of a fact
CHUNK = 1 << 19  # bytes


@dataclass(frozen=True)
class Settings:
    """recipe: how letters become tokens. workers: 0 for as many as make it faster.

    group_by: what a split must not divide: record, file, likeness or file-likeness, these perhaps
    with :IDENTITY, or all that have the same value of a fact; auto: records, where they are enough.
    skip_bad: leave out files that cannot be read. allow_unknown: the part of a text's letters that
    a text tokenizer may have no token for. columns: what to read of tables.
    annotation, regions: GFF and BED files of features. metadata: a table about the records.
    train_tokenizer: the tokenizer to train on the inputs, or "". drop_duplicates: exact,
    near:IDENTITY or "".
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
    train_tokenizer: str = ""
    drop_duplicates: str = ""

    @property
    def fact(self) -> str:
        """The fact that group_by names, or ""."""
        return "" if self.group_by.partition(":")[0] in BUILT_IN else self.group_by

    @property
    def resumable(self) -> bool:
        """Whether a killed preparation can be gone on with: not where what is known of records
        that were read must be known again.
        """
        recipe = self.recipe
        learnt = recipe.features or recipe.tags or self.fact
        return not (learnt or self.annotation or self.regions or self.metadata)

    @property
    def chunk(self) -> int:
        return self.chunk_bytes or CHUNK
