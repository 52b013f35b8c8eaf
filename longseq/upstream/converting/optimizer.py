"""fp32 weights and Adam's moments of one rank, in each of the forms in which DeepSpeed keeps them.

    kept = beside(file["optimizer"], path, adam=True)  # stage 0: in the same file as the weights
    kept = parted({path: file, ...}, adam=True)        # stages 1 and 2: a file a replica
    kept.by_name(groups(file, weights, path), weights) # (kind, name, tensor), one after the other

Its optimizer numbers parameters in groups, matrices first, then norms and biases. A group is kept
as a tensor a parameter, or as one run of numbers, which replicas may have cut into parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longseq.errors import UserError

WEIGHT, MOMENTS = "weight", ("exp_avg", "exp_avg_sq")
Parts = list[list[Any]]  # of each group


@dataclass(frozen=True)
class Kept:
    """`parts` by kind; in one `run` a group's numbers lie one parameter after the other, and may
    be followed by what fills the last part up. steps: Adam's own count, None without moments.
    paths: the file of each part, or of all.
    """

    paths: list[Path]
    parts: dict[str, Parts]
    run: bool
    steps: float | None

    def by_name(
        self, groups: Sequence[Sequence[str]], weights: Mapping[str, Tensor]
    ) -> Iterator[tuple[str, str, Tensor]]:
        """Kind, name and tensor; each has the shape of its weight.

        Raises UserError where a weight is another than the one that was computed with: no two files
        of a checkpoint say so surely that they belong together.
        """
        for kind, parts in self.parts.items():
            if len(parts) != len(groups):
                raise UserError(
                    f"{self.path}: {kind} is of {len(parts)} groups, and {len(groups)} are here"
                )
            for names, numbers in zip(groups, parts, strict=True):
                if not all(isinstance(part, Tensor) for part in numbers):
                    raise UserError(f"{self.path}: {kind} of {names[0]} is no tensor")
                found = self._cut(names, numbers, weights) if self.run else numbers
                if len(found) != len(names):
                    raise UserError(
                        f"{self.path}: {kind} is of {len(found)} parameters, and {len(names)} are"
                        f" here from {names[0]} on"
                    )
                if kind == WEIGHT:
                    self._check_rounded(names, found, numbers, weights)
                for name, tensor in zip(names, found, strict=True):
                    yield kind, name, tensor.detach()

    @property
    def path(self) -> Path:
        return self.paths[-1]

    def _check_rounded(
        self,
        names: Sequence[str],
        found: Sequence[Tensor],
        parts: Sequence[Tensor],
        weights: Mapping[str, Tensor],
    ) -> None:
        before = 0
        for name, tensor in zip(names, found, strict=True):
            weight = weights[name]
            if tensor.shape != weight.shape or not weight.is_floating_point():
                return  # which is said of the whole
            kind = torch.finfo(weight.dtype)
            near = (tensor.detach().float(), weight.detach().float(), kind.eps, kind.tiny)
            if not torch.allclose(*near, equal_nan=True):
                first = int((~torch.isclose(*near, equal_nan=True)).flatten().nonzero()[0])
                ends = accumulate(part.numel() for part in parts)
                part = sum(end <= before + first for end in ends) if len(self.paths) > 1 else 0
                raise UserError(
                    f"{self.paths[part]}: {name} in fp32 is not what was computed with, of which"
                    f" its rank's model_states.pt holds {str(weight.dtype)[6:]}: one of these files"
                    " is of another iteration, or a copy of another rank's"
                )
            before += tensor.numel()

    def _cut(
        self, names: Sequence[str], parts: list[Tensor], weights: Mapping[str, Tensor]
    ) -> list[Tensor]:
        numbers = torch.cat([part.flatten() for part in parts])
        sizes = [weights[name].numel() for name in names]
        over = len(numbers) - sum(sizes)
        if not 0 <= over < 2 * len(parts):  # it fills up to two numbers a replica
            raise UserError(
                f"{self.path}: {len(numbers)} numbers for the {sum(sizes)} from {names[0]} on"
            )
        runs = numbers[: sum(sizes)].split(sizes)
        return [run.view(weights[name].shape) for name, run in zip(names, runs, strict=True)]


def groups(file: Mapping[str, Any], weights: Mapping[str, Tensor], path: Path) -> list[list[str]]:
    """The names of each group's parameters, in their order."""
    with _whole(path):
        named = [list(group) for group in file.get("param_shapes") or ()]  # at stages 1 and 2
        if unknown := [name for group in named for name in group if name not in weights]:
            raise UserError(f"{path}: its param_shapes name {unknown[0]}, and it holds none")
    plain = [name for name, tensor in weights.items() if tensor.ndim == 1]
    return named or [[name for name in weights if name not in plain], plain]


def beside(optimizer: Mapping[str, Any], path: Path, adam: bool) -> Kept:
    """What is kept at stage 0, of `path`; adam: are there moments?"""
    with _whole(path):
        run = "fp32_groups_flat" in optimizer
        weights = [[flat] for flat in optimizer["fp32_groups_flat"]] if run else []
        weights = weights or [list(group) for group in optimizer.get("fp32_groups", [])]
        moments, steps = _moments(optimizer.get("optimizer_state_dict", optimizer), adam)
        return Kept([path], ({WEIGHT: weights} if weights else {}) | moments, run, steps)


def parted(files: Mapping[Path, Mapping[str, Any]], adam: bool) -> Kept:
    """What the replicas keep of their parts at stages 1 and 2, in their order."""
    parts: dict[str, Parts] = {}
    steps: dict[Path, float | None] = {}
    for path, file in files.items():
        with _whole(path):
            optimizer = file["optimizer_state_dict"]
            mine, steps[path] = _moments(optimizer["base_optimizer_state"], adam)
            mine[WEIGHT] = [[part] for part in optimizer["single_partition_of_fp32_groups"]]
        for kind, of_groups in mine.items():
            before = parts.get(kind, [[] for _ in of_groups])
            parts[kind] = [[*old, *new] for old, new in zip(before, of_groups, strict=False)]
    first, *others = steps.items()
    if differ := [one for one in others if one[1] != first[1]]:
        (path, count) = differ[0]
        raise UserError(
            f"{path}: its Adam has taken {counted(count)} steps, and that of {first[0].name}"
            f" {counted(first[1])}: they are of two iterations"
        )
    return Kept(list(files), parts, True, first[1])


def counted(steps: float | None) -> str:
    """Adam's steps, in a line for a user."""
    return "no" if steps is None else f"{steps:g}"


def _moments(base: Mapping[str, Any], adam: bool) -> tuple[dict[str, Parts], float | None]:
    """Moments by kind and group, and the count of steps, of torch's or apex' Adam."""
    state, of_groups = base["state"], base["param_groups"]
    if not (adam and state):
        return {}, None
    parts = {
        kind: [[state[number][kind] for number in group["params"]] for group in of_groups]
        for kind in MOMENTS
    }
    first = state[of_groups[0]["params"][0]]
    return parts, float(first["step"] if "step" in first else of_groups[0]["step"])  # apex: there


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Raise UserError where the state of an optimizer is not whole."""
    try:
        yield
    except KeyError as error:
        raise UserError(f"{path}: its optimizer's state lacks {error}") from None
    except (TypeError, AttributeError, IndexError, ValueError) as error:
        raise UserError(f"{path}: its optimizer's state is none of DeepSpeed's: {error}") from None
