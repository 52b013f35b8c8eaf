"""What tests/gpu/trace.py reads off a trace, against one written by hand."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.gpu.trace import Event, Trace, compress, group_of

GEMM, FLASH, ADAM = "nvjet_tst_128x256", "pytorch_flash::flash_fwd_kernel", "multi_tensor_apply"


def event(cat: str, name: str, ts: int, dur: int, tid: int = 1, size: int = 0) -> dict[str, Any]:
    args = {"bytes": size} if size else {}
    at = {"pid": 1, "tid": tid, "ts": ts, "dur": dur}
    return {"ph": "X", "cat": cat, "name": name, **at, "args": args}


def near(rows: Any) -> list[list[Any]]:
    """Rows whose times can be compared."""
    return [[round(x, 9) if isinstance(x, float) else x for x in row] for row in rows]


# Microseconds. Idle: 300 to 350 and 600 to 1000; two kernels overlap from 200 to 250
STEP = [
    event("user_annotation", "update", 500, 600),
    event("kernel", GEMM, 100, 150, 7),
    event("kernel", FLASH, 200, 100, 8),
    event("kernel", GEMM, 350, 250, 7),
    event("kernel", ADAM, 1000, 50, 7),
    event("gpu_memcpy", "Memcpy DtoH (Device -> Pageable)", 1050, 10, 7, 2**20),
    event("cpu_op", "aten::item", 590, 420),
    event("cuda_runtime", "cudaStreamSynchronize", 600, 380),
    event("cuda_runtime", "cudaLaunchKernel", 310, 30),
    event("gpu_user_annotation", "update", 0, 5000),
    {"ph": "M", "name": "process_name", "args": {"name": "python"}},
    {"ph": "s", "cat": "ac2g", "name": "ac2g", "ts": 310, "tid": 1},
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"traceEvents": STEP}))
    return path


def test_times_by_kernel_and_by_group(file: Path) -> None:
    trace = Trace.read(file)
    assert near(trace.by_kernel())[:2] == [[GEMM, 0.4, 2], [FLASH, 0.1, 1]]
    assert [row[0] for row in trace.by_group()] == ["matmul", "attention", "optimizer", "copies"]
    assert near([trace.span]) == [[0.1, 1.06]]


def test_gaps_and_what_the_cpu_did(file: Path) -> None:
    idle, gaps = Trace.read(file).gaps(most=2)
    assert idle == pytest.approx(0.45)
    assert near([[gap.ms for gap in gaps]]) == [[0.4, 0.05]]
    assert gaps[0].cpu == "update: cudaStreamSynchronize"
    assert (gaps[0].before, gaps[0].after) == (GEMM, ADAM)
    assert gaps[1].start == pytest.approx(0.2)
    assert gaps[1].cpu == "cudaLaunchKernel"


def test_copies_and_waits(file: Path) -> None:
    trace = Trace.read(file)
    assert near(trace.copies()) == [["Memcpy DtoH (Device -> Pageable)", 0.01, 1, 1.0]]
    assert near(trace.waits()) == [["cudaStreamSynchronize", 0.38, 1]]


def test_a_cpus_outermost_operations_stand_for_kernels() -> None:
    inner = Event("cpu_op", "aten::mm", 1.0, 2.0)
    outer = Event("cpu_op", "aten::linear", 0.5, 3.0)
    other = Event("cpu_op", "aten::gelu", 1.0, 1.0, thread=2)
    later = Event("cpu_op", "aten::linear", 4.0, 1.0)
    assert Trace.of([inner, outer, other, later]).device == [outer, other, later]


def test_the_trace_that_is_kept_says_the_same(file: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.json"
    again.write_bytes(gzip.decompress(compress(file)))
    assert Trace.read(again).by_kernel() == Trace.read(file).by_kernel()
    assert STEP[-2] in json.loads(again.read_text())["traceEvents"]


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("void pytorch_flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<cutlass>", "attention"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_bprop_wgmma_f16", "attention"),
        ("fmha_cutlassF_f32_aligned_64x64_rf_sm80", "attention"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64", "matmul"),
        ("void at::native::multi_tensor_apply_kernel<FusedAdamMathFunctor>", "optimizer"),
        ("void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<float>", "norm"),
        ("triton_red_fused_native_layer_norm_backward_3", "norm"),
        ("void at::native::elementwise_kernel<direct_copy_kernel_cuda>", "copies"),
        ("void at::native::vectorized_elementwise_kernel<4, GeluCUDAKernelImpl>", "pointwise"),
        ("triton_poi_fused_add_2", "pointwise"),
        ("void at::native::reduce_kernel<512, 1, MeanOps>", "pointwise"),
        ("Memset (Device)", "copies"),
        ("triton_poi_fused__to_copy_addmm_cat_gelu_3", "pointwise"),
        ("triton_red_fused__to_copy_add_addmm_native_layer_norm_1", "norm"),
        ("triton_poi_fused__to_copy_add_copy_div_mul_rsub_sqrt_sub_0", "optimizer"),
        ("something_else", "other"),
    ],
)
def test_groups(name: str, group: str) -> None:
    assert group_of(name) == group
