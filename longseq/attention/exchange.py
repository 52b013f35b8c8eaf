"""What happens around the kernel where ranks share a sample: by default nothing.

`scatter_heads` turns the queries, keys and values that a rank has made into those that its kernel
works on, `gather_heads` does the opposite for the kernel's output. The two `…_gradient` functions
are their adjoints, for those who run backward by hand; autograd knows them as well.
"""

from __future__ import annotations

from torch import Tensor

Three = tuple[Tensor, Tensor, Tensor]


class Exchange:
    """No exchange: every rank attends to the heads and tokens that it has."""

    def scatter_heads(self, q: Tensor, k: Tensor, v: Tensor) -> Three:
        """q [s, b, heads, d], k and v [s, b, groups, d] → the kernel's."""
        return q, k, v

    def scatter_heads_gradient(self, dq: Tensor, dk: Tensor, dv: Tensor) -> Three:
        """Gradients of the kernel's q, k, v → of scatter_heads' inputs, [s, b, …, d]."""
        return dq, dk, dv

    def gather_heads(self, y: Tensor) -> Tensor:
        """The kernel's output → [s, b, heads, d] of this rank's tokens and heads."""
        return y

    def gather_heads_gradient(self, dy: Tensor) -> Tensor:
        """[s, b, heads, d], the gradient of what `gather_heads` gave → of the kernel's output."""
        return dy
