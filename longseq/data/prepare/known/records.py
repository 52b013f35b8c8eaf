"""What is known of each record, from its file and from --metadata, and so its group."""

import json
from array import array
from typing import TYPE_CHECKING

from longseq.data.prepare.settings import Settings
from longseq.data.sources.names import called
from longseq.errors import UserError

if TYPE_CHECKING:
    from longseq.data.sources.annotation.metadata import Metadata


class Known:
    """groups: int64 [records], the group of each, where --group-by names a fact."""

    def __init__(self, settings: Settings) -> None:
        self.metadata = _metadata(settings.metadata) if settings.metadata else None
        self.by = settings.fact
        self.groups = array("q")
        self._numbers: dict[str, int] = {}
        self._marked = 0

    def mark(self) -> None:
        self._marked = len(self.groups)
        if self.metadata is not None:
            self.metadata.mark()

    def rollback(self) -> None:
        del self.groups[self._marked :]  # a number that no record has is left out at the end
        if self.metadata is not None:
            self.metadata.rollback()

    def facts(self, path: str, names: list[str], own: list[str]) -> list[str]:
        """JSON of what is known of each record; [] where nothing is."""
        if self.metadata is None:
            return own
        of_all = own or [""] * len(names)
        return [
            self.metadata.added(text, path, name) for name, text in zip(names, of_all, strict=True)
        ]

    def group(self, path: str, names: list[str], facts: list[str]) -> None:
        """Note the groups of the next records."""
        if not self.by:
            return
        for name, text in zip(names, facts or [""] * len(names), strict=True):
            said = json.loads(text) if text else {}
            if self.by not in said:
                has = ", ".join(said) or "nothing"
                raise UserError(
                    f"{called(path, name)} does not say its {self.by!r},"
                    f" which --group-by asks for (it says {has}): give it with --metadata"
                )
            self.groups.append(self._numbers.setdefault(said[self.by], len(self._numbers)))


def _metadata(path: str) -> "Metadata":
    from longseq.data.sources.annotation.metadata import Metadata

    return Metadata(path)
