"""The step that proves kernels on a GPU, run on the CPU: right passes, wrong does not."""

from __future__ import annotations

import re

import pytest
from torch import Tensor

from longseq.attention.kernel import AttentionDropout, Documents, Kernel
from longseq.attention.kernels import core, sdpa
from tests.gpu import kernels
from tests.gpu.kernels import Case, differences, dropout_faults, main


def test_the_kernels_of_a_cpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kernels, "CASES", (Case(groups=2, documents=kernels.DOCUMENTS),))
    assert main(["--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "sdpa bf16 documents, heads 8/2 of 64         ok " in printed
    assert re.search(r"^v3 bf16 .* not run +--use-flash-attn-v3", printed, re.MULTILINE)
    assert not re.search(" (wrong|failed) ", printed)


def wrong(change: str) -> Kernel:
    """Core attention with one mistake."""

    def attend(
        q: Tensor, k: Tensor, v: Tensor, documents: Documents, dropout: AttentionDropout | None
    ) -> Tensor:
        if change == "documents ignored":
            documents = None
        if change == "scale":
            q = q * 1.01
        if change == "no gradient of keys":
            k = k.detach()
        if change == "never drops":
            dropout = None
        if change == "drops more" and dropout:
            dropout = dropout._replace(probability=0.25)
        if change == "one seed" and dropout:
            dropout = dropout._replace(seed=0)
        return core.attend(q, k, v, documents, dropout)

    return attend


@pytest.mark.parametrize("change", ["documents ignored", "scale", "no gradient of keys"])
def test_a_mistake_is_seen(change: str) -> None:
    case = Case(documents=kernels.DOCUMENTS)
    assert max(differences(wrong(change), case, "fp32", "cpu")) > 1e-3
    assert max(differences(wrong(""), case, "fp32", "cpu")) < 2e-5


@pytest.mark.parametrize("change", ["never drops", "drops more", "one seed"])
def test_a_mistake_in_dropout_is_seen(change: str) -> None:
    float32 = kernels.DTYPES["fp32"]
    assert list(dropout_faults(wrong(change), float32, "cpu"))
    assert not list(dropout_faults(wrong(""), float32, "cpu"))


def test_a_mistake_is_exit_code_4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "CASES", (Case(),))
    monkeypatch.setattr(sdpa, "attend", wrong("scale"))
    assert main(["--device", "cpu"]) == 4
