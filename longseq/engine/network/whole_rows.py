"""torch's compiler for GPUs, told to take a whole row of hidden states into registers.

    norm_whole_rows()      # before anything is compiled

It does so up to 1,024 numbers. A longer row it reads twice, with a running mean and variance that
divides at every step: a norm of 1,536 then takes 42 µs of 8,192 tokens on an H200, where memory
needs 12 (docs/kernels.md).
"""

from __future__ import annotations

from typing import Any

LONGEST = 8192  # numbers of a row: 32 of each of 256 threads


def norm_whole_rows() -> None:
    """For this process. A torch without this setting keeps its own rule."""
    from torch._inductor import config

    if hasattr(config, "inductor_choices_class"):
        config.inductor_choices_class = choices


def choices() -> Any:
    """torch's choices, but for rows."""
    from torch._inductor import config
    from torch._inductor.choices import InductorChoices
    from torch._inductor.runtime.hints import ReductionHint
    from torch._inductor.virtualized import V

    class WholeRows(InductorChoices):
        """Rows that lie together in memory, up to the longest, are reduced where they are held."""

        @staticmethod
        def should_use_persistent_reduction(features: Any, cooperative_reduction: bool) -> bool:
            if InductorChoices.should_use_persistent_reduction(features, cooperative_reduction):
                return True
            row = features.get_reduction_hint() == ReductionHint.INNER
            row = row and config.triton.persistent_reductions
            short = V.graph.sizevars.statically_known_leq(features.reduction_numel, LONGEST)
            return bool(row and short and not cooperative_reduction)

        def uuid(self) -> str:
            """Names these choices in the compiler's cache."""
            return f"longseq whole rows {LONGEST}"

    return WholeRows()
