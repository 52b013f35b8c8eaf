"""Compiled layers give what written ones give, and are compiled once for all layers.

torch's own tracing and differentiation run ("aot_eager"), but no C++ compiler: what that makes is
held to the written layers where there is a GPU (tests/gpu).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from longseq.attention.kernel import kernel
from longseq.config.checks import parse_config
from longseq.engine.network.compile import (
    compile_layers,
    in_one_piece,
    layers_together,
    wants_compiling,
    what_compiles,
)
from longseq.engine.network.initialize import initialize
from longseq.engine.network.recompute import apply_recompute_policy
from longseq.errors import UserError
from longseq.host.uncompiled import uncompiled
from longseq.memory.recompute_policy import RecomputePolicy, asked
from longseq.model import layers
from longseq.model.context import Context
from longseq.model.gpt import GPT
from longseq.model.rotary import rotary_table
from tests.unit.attention.watch import Watch

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
SHAPE = "--num-layers 3 --hidden-size 32 --num-attention-heads 4 --seq-length 48"
TP = "--use-flash-attn-sdpa --tensor-model-parallel-size 2"
FULL = RecomputePolicy("full", tile=20)


@pytest.fixture(autouse=True)
def _nothing_compiled_before() -> Iterator[None]:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


def network(
    words: str,
    policy: RecomputePolicy,
    compiled: bool,
    backend: str = "aot_eager",
    together: int = 1,
) -> GPT:
    config = parse_config([*f"{SHAPE} --use-flash-attn-sdpa --device cpu {words}".split()], 1)
    with torch.device("meta"):
        model = GPT(config.network, 11, kernel("sdpa"), 5)
    apply_recompute_policy(model, policy)
    initialize(model, config.network, 5, CPU)
    if compiled:
        compile_layers(model, policy, in_one_piece(config), together, backend=backend)
    return model


def found(model: GPT, forward_pass: int = 3) -> list[torch.Tensor]:
    """The loss and the gradients for some tokens."""
    generator = torch.Generator().manual_seed(1)
    tokens, labels = (torch.randint(0, 11, (2, 48), generator=generator) for _ in range(2))
    weights, positions = torch.full((2, 48), 1 / 96), torch.arange(48)[None]
    model.zero_grad()
    loss = model(tokens, labels, weights, positions, None, forward_pass)
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize(
    ("words", "policy", "graphs"),
    [
        ("--use-rotary-position-embeddings", RecomputePolicy(), 1),
        ("--swiglu --normalization rmsnorm --disable-bias-linear", RecomputePolicy(), 1),
        ("--use-rotary-position-embeddings", RecomputePolicy("pointwise"), 1),
        # dropout stands between: the part before attention, and three after it, of which two are
        # made once more when the number of the forward pass is seen to change
        ("--hidden-dropout 0.1 --num-key-value-heads 2", RecomputePolicy(), 6),
        # halves, forward alone and for backward, tiles of 20 rows and any others
        ("--use-rotary-position-embeddings", FULL, 8),
    ],
)
def test_compiled_layers_are_the_written_ones(
    words: str, policy: RecomputePolicy, graphs: int
) -> None:
    written, compiled = (network(words, policy, on) for on in (False, True))
    counted = []
    for forward_pass in (3, 4, 5):  # dropout's seeds change
        pairs = zip(found(written, forward_pass), found(compiled, forward_pass), strict=True)
        for wanted, got in pairs:
            torch.testing.assert_close(got, wanted, rtol=2e-5, atol=2e-6)
        counted.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert counted[1] == counted[2] <= graphs  # three layers have the same


@pytest.mark.parametrize("policy", [RecomputePolicy(), RecomputePolicy("pointwise")])
def test_layers_in_one_piece_are_the_written_ones(policy: RecomputePolicy) -> None:
    """Two pieces of two, trained and, with the same weights, looked at without gradients."""
    words = "--num-layers 4 --use-rotary-position-embeddings"
    written = network(words, policy, False)
    compiled = network(words, policy, True, together=2)
    for _ in range(2):
        for wanted, got in zip(found(written), found(compiled), strict=True):
            torch.testing.assert_close(got, wanted, rtol=2e-5, atol=2e-6)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    tokens, positions = torch.arange(24).reshape(2, 12) % 11, torch.arange(12)[None]
    with torch.no_grad():
        both = [model.eval().hidden(tokens, positions) for model in (written, compiled)]
    torch.testing.assert_close(*both, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("words", "pieces"),
    [("--num-layers 48", 4), ("--num-layers 6", 3), ("--num-layers 7", 1)],
)
def test_how_many_short_layers_are_a_piece(words: str, pieces: int) -> None:
    def together(more: str) -> int:
        config = parse_config([*SHAPE.split(), *words.split(), *more.split()], 1)
        return layers_together(config)

    assert together("--device cuda") == pieces
    assert together("--device cpu --compile on") == 1  # whose layers wait for nobody
    assert together("--device cuda --seq-length 4000000") == 1


@pytest.mark.parametrize(("way", "kept"), [("none", 16), ("pointwise", 10)])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("together", [1, 3])
def test_what_a_compiled_layer_keeps(way: str, kept: int, whole: bool, together: int) -> None:
    """In hidden states of all tokens, as the estimate counts it for written layers."""
    words = "--use-rotary-position-embeddings" + ("" if whole else " --reset-attention-mask")
    # With norms taken apart, as the compiler for GPUs does
    policy = RecomputePolicy(way)
    model = network(words, policy, True, "aot_eager_decomp_partition", together)
    x = torch.randn(48, 1, 32, requires_grad=True)
    table = rotary_table(torch.arange(48)[None], 8, 1e4)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    sizes: dict[int, int] = {}

    def pack(saved: torch.Tensor) -> torch.Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes() // x.untyped_storage().nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        y = model.run_layers(model.layers[:together], x, Context(table))
    assert sum(sizes.values()) == kept * together
    y.sum().backward()


class Talking(nn.Linear):
    """A product in which ranks talk: compiled code ends before it."""

    @uncompiled
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, self.weight, self.bias)


def talking(model: GPT) -> None:
    for layer in model.layers:
        for part, names in ((layer.attention, ("qkv", "projection")), (layer.mlp, ("up", "down"))):
            for name in names:
                plain = getattr(part, name)
                setattr(part, name, Talking(plain.in_features, plain.out_features))


def test_where_ranks_talk_in_products_a_pointwise_layer_keeps_no_more() -> None:
    """These stand between compiled parts, and would keep what they are given."""
    policy = RecomputePolicy("pointwise")
    model = network("--use-rotary-position-embeddings", policy, compiled=False)
    talking(model)
    compile_layers(model, policy, backend="aot_eager_decomp_partition")
    x = torch.randn(2400, 1, 32, requires_grad=True)
    table = rotary_table(torch.arange(2400)[None], 8, 1e4)
    with Watch() as watch:
        y = model.layers[0](x, Context(table))
        held = watch.alive  # with its output, without its input
    assert held / x.untyped_storage().nbytes() == pytest.approx(10, abs=0.5)
    y.sum().backward()


def test_who_compiles() -> None:
    def wants(words: str, device: torch.device) -> bool:
        return wants_compiling(parse_config([*SHAPE.split(), *words.split()], 1), device)

    assert not wants("--device cpu", CPU)
    assert wants("--device cpu --compile on", CPU)
    assert not wants("--device cuda --zero-stage 3", CUDA)
    assert not wants("--device cuda --compile off", CUDA)
    with pytest.raises(UserError, match=r"--compile on .COMPILE=on. with --zero-stage 3"):
        wants("--device cpu --compile on --zero-stage 3", CPU)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (f"{TP} --sequence-parallel", "layers compiled but for attention"),
        (f"{TP} --recompute-granularity pointwise", ""),
        (
            "--use-flash-attn-sdpa --recompute-granularity pointwise",
            "layers compiled, 3 in one piece",
        ),
        ("--use-flash-attn-sdpa --recompute-granularity full", "layers compiled"),
        ("--use-flash-attn-sdpa --seq-length 4000000", "layers compiled"),
        ("--use-flash-attn-sdpa --hidden-dropout 0.1", "layers compiled but for attention"),
        ("--use-flash-attn-sdpa --compile off", ""),
        ("--use-flash-attn-sdpa --zero-stage 3", ""),
    ],
)
def test_what_compiles_is_said(words: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)  # a machine with triton
    ranks = 2 if TP in words else 1
    config = parse_config([*SHAPE.split(), *words.split(), "--device", "cuda"], ranks)
    assert what_compiles(config, asked(config, device="cuda"), CUDA) == said


def test_without_triton_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    config = parse_config([*SHAPE.split(), "--device", "cuda"], 1)
    with pytest.raises(UserError, match="COMPILE=off"):
        wants_compiling(config, CUDA)


def test_the_gelu_of_compiled_code_is_the_other_one() -> None:
    x = torch.linspace(-30, 30, 4001, dtype=torch.float64)
    torch.testing.assert_close(
        layers._gelu(x), F.gelu(x, approximate="tanh"), rtol=1e-12, atol=1e-15
    )
