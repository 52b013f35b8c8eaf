"""What torch is told before it starts."""

from __future__ import annotations

import pytest

from longseq.engine.distributed import make_deterministic
from longseq.errors import UserError


def test_a_workspace_that_does_not_repeat_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:2")
    with pytest.raises(UserError, match="CUBLAS_WORKSPACE_CONFIG=:4096:2 lets cuBLAS"):
        make_deterministic()
