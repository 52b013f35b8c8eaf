"""Weights and optimizer state as pieces of named tensors, wherever the stage keeps them.

    state = engine_state(engine, mesh)             # zero_state.py
    for piece, numbers in state.pieces():          # numbers: flat, in place, valid until the next
        …                                          # read them: a save
    for piece, numbers in state.pieces(loading=True):
        …                                          # write into them: a load

Weights are the fp32 masters where there are some; after a load the network's own follow them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from longseq.parallel.mesh import Mesh
from longseq.parallel.sharding import Sharding

WEIGHT = "weight"
SCALER = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


@dataclass(frozen=True)
class Piece:
    """The numbers `start` to `stop` of this rank's share of a whole tensor.

    tensor: its kind and its parameter, "exp_avg/norm.weight". mine: whether this rank writes them,
    where several hold the same.
    """

    tensor: str
    shape: tuple[int, ...]
    sharding: Sharding | None
    start: int
    stop: int
    mine: bool = True


@dataclass(frozen=True)
class Part:
    """A parameter's numbers from `start` on, `count` of them, at `at` in a group's flat tensor."""

    name: str
    shape: tuple[int, ...]
    sharding: Sharding | None
    start: int
    count: int
    at: int
    mine: bool


class EngineState:
    """What the stages have in common. A group is a tensor that the optimizer steps as one."""

    def __init__(self, engine: Any, mesh: Mesh) -> None:
        self.engine, self.mesh, self.optimizer = engine, mesh, engine.optimizer
        self.names = {id(p): name for name, p in engine.module.named_parameters()}

    @property
    def device(self) -> torch.device:
        """Where this rank computes."""
        found: torch.device = self.engine.device
        return found

    def steppers(self) -> tuple[Any, ...]:
        """The torch optimizers that hold the state."""
        return (self.optimizer.optimizer,)

    def groups(self) -> list[tuple[Any, list[Part]]]:
        """Each group's tensor, with the parts of parameters that it is made of."""
        raise NotImplementedError

    def hold(self, number: int) -> None:
        """Bring a group into memory."""

    def release(self, number: int, changed: bool) -> None:
        """Undo `hold`; where it has `changed`, keep that and give it to the network."""

    def step_group(self, number: int, group: Any) -> None:
        """One step of a group whose gradient is set, so that the optimizer makes its state."""
        for stepper in self.steppers():
            stepper.step()

    def begin_loading(self) -> None:
        """Weights are going to change."""

    def finish_loading(self) -> None:
        """All weights have changed."""

    def pieces(
        self, loading: bool = False, weights_only: bool = False
    ) -> Iterator[tuple[Piece, Tensor]]:
        """Everything that this rank holds, or the weights of it, group after group."""
        if loading:
            self.begin_loading()
        for number, (group, parts) in enumerate(self.groups()):
            self.hold(number)
            if loading and not weights_only and not self._state(group):
                self._make_state(number, group)
            for piece, numbers in self._of_group(group, parts):
                if not weights_only or piece.tensor.startswith(f"{WEIGHT}/"):
                    yield piece, numbers
            self.release(number, loading)
        if loading:
            self.finish_loading()

    def plan(self) -> list[Piece]:
        """The same pieces, without bringing them into memory."""
        return [
            piece for group, parts in self.groups() for piece, _ in self._of_group(group, parts)
        ]

    def _make_state(self, number: int, group: Any) -> None:
        """A step whose results are overwritten makes the state as the optimizer wants it."""
        kept, group.grad = group.grad, group.new_zeros(group.shape)
        self.step_group(number, group)
        group.grad = kept

    def _state(self, group: Any) -> dict[str, Any]:
        for stepper in self.steppers():
            if group in stepper.state:
                found: dict[str, Any] = stepper.state[group]
                return found
        return {}

    def _of_group(self, group: Any, parts: list[Part]) -> Iterator[tuple[Piece, Tensor]]:
        tensors = {WEIGHT: group.detach()}
        tensors |= {kind: v for kind, v in self._state(group).items() if _is_tensor(v)}
        for kind, tensor in tensors.items():
            flat = tensor.view(-1)
            for part in parts:
                shape, count = part.shape, part.count
                if tensor.numel() != group.numel():  # Adafactor's sums of rows and columns
                    shape, count = tuple(tensor.shape), tensor.numel()
                where = (part.sharding, part.start, part.start + count, part.mine)
                yield Piece(f"{kind}/{part.name}", shape, *where), flat[part.at : part.at + count]

    @property
    def numbers(self) -> dict[str, float]:
        """What the optimizer counts, the same for all parameters; fp16's loss scale."""
        counted = {
            kind: float(value)
            for group, _ in self.groups()
            for kind, value in self._state(group).items()
            if value is not None and not _is_tensor(value)
        }
        scaler = self._scaler()
        return counted | {n: float(getattr(scaler, n)) for n in SCALER if hasattr(scaler, n)}

    def set_numbers(self, numbers: Mapping[str, float]) -> None:
        """Put back what `numbers` gave; a loss scale into fp16 runs only."""
        for group, _ in self.groups():
            state = self._state(group)
            for kind in numbers.keys() & state.keys():
                if isinstance(state[kind], Tensor):
                    state[kind].fill_(numbers[kind])
                else:
                    state[kind] = type(state[kind])(numbers[kind])
        scaler = self._scaler()
        for name in SCALER:
            if name in numbers and hasattr(scaler, name):
                setattr(scaler, name, type(getattr(scaler, name))(numbers[name]))

    def _scaler(self) -> Any:
        found = getattr(self.optimizer, "loss_scaler", None)
        return found if getattr(found, "dynamic", False) else None

    def mine(self, sharding: Sharding | None) -> bool:
        """Whether this rank's tensor-parallel neighbours leave writing to it."""
        return sharding is not None or self.mesh.tp.rank == 0


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0
