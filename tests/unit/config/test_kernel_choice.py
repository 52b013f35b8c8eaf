"""Which attention kernel a run gets on which machine, and what is refused before it starts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from longseq.__main__ import run_verb
from longseq.attention.kernel import kernel
from longseq.attention.limits import BEST_FIRST, KERNELS
from longseq.config.arguments import GROUPS, Config
from longseq.config.flags import parse
from longseq.config.kernels import note, with_kernel
from longseq.errors import UserError
from longseq.host.machine import Machine, gpu_capability, in_environment
from longseq.run import check as prepare_run

ROOT = Path(__file__).parents[3]
TORCH = ("torch", "2.13.0+cu126")
FLASH_1, FLASH_2 = ("flash-attn", "1.0.9"), ("flash-attn", "2.8.3.post1")
FLASH_3, TRITON = ("flash-attn-3", "3.0.0b1"), ("triton", "3.5.0")
FLASH_4 = ("flash-attn-4", "4.0.0b36")

LAPTOP = Machine(None, (TORCH,))
TURING = Machine((7, 5), (TORCH, FLASH_1, TRITON))
A100 = Machine((8, 0), (TORCH, FLASH_2, FLASH_3, TRITON))
ADA = Machine((8, 9), (TORCH, FLASH_1))
L40 = Machine((8, 9), (TORCH, FLASH_2))
H100 = Machine((9, 0), (TORCH, FLASH_2, FLASH_3, TRITON))
BARE_H100 = Machine((9, 0), (TORCH,))
BLACKWELL = Machine((10, 0), (TORCH, FLASH_2, FLASH_3, TRITON))
NEW_H100 = Machine((9, 0), ())
H100_4, B200_4 = (Machine((major, 0), (TORCH, FLASH_4)) for major in (9, 10))
RTX_4 = Machine((12, 0), (TORCH, FLASH_4))
LOGIN_NODE = Machine(None, (TORCH, FLASH_2))


def config_of(flags: str) -> Config:
    """As the user gives it, for GPUs, before a kernel is chosen or refused."""
    return Config(*parse(GROUPS, [*flags.split(), "--device", "cuda"]))


LARGE = "--bf16 --hidden-size 1536 --num-attention-heads 24 --seq-length 8192"
BEST = [
    # flags, machine, the kernel
    (LARGE, H100, "v3"),
    # 2.0e12 operations a layer; with 2,048 tokens 3.9e11, fewer than the host leaves time for
    (f"{LARGE} --seq-length 2048", H100, "cudnn"),
    (f"{LARGE} --seq-length 2048 --micro-batch-size 8", H100, "v3"),
    (f"{LARGE} --seq-length 2048 --compile off", H100, "v3"),
    (f"{LARGE} --seq-length 2048 --reset-attention-mask", H100, "v3"),
    (f"{LARGE} --seq-length 2048", A100, "v2"),
    (f"{LARGE} --seq-length 2048", LOGIN_NODE, "best"),
    ("--bf16 --attention-dropout 0.1", H100, "v2"),
    ("--bf16", A100, "v2"),
    ("--bf16", BLACKWELL, "cudnn"),
    ("--bf16", BARE_H100, "cudnn"),
    ("--bf16", H100_4, "cudnn"),
    ("--bf16 --reset-attention-mask", H100_4, "v4"),
    ("--bf16 --reset-attention-mask --hidden-size 2048", B200_4, "sdpa"),  # heads of 256
    ("--bf16 --deterministic-mode", B200_4, "v4"),
    ("--bf16 --reset-attention-mask", BARE_H100, "sdpa"),
    ("--bf16 --deterministic-mode", BARE_H100, "sdpa"),
    ("--bf16", TURING, "sdpa"),
    ("", H100, "sdpa"),
    ("--bf16 --hidden-size 4096", H100, "sdpa"),  # heads of 512
    ("--bf16 --context-parallel-size 2", H100, "sdpa"),
    ("--bf16 --ds-sequence-parallel-size 2", H100, "v3"),
    ("--bf16 --ds-sequence-parallel-fpdt", H100, "sdpa"),
    ("--bf16", LOGIN_NODE, "best"),
    ("--bf16", NEW_H100, "best"),
]


@pytest.mark.parametrize(("flags", "machine", "wanted"), BEST)
def test_the_best_on_each_machine(flags: str, machine: Machine, wanted: str) -> None:
    config = with_kernel(config_of(f"{flags} --use-flash-attn-best"), machine)
    assert config.memory.kernel == wanted


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [("", "sdpa"), ("--attention-dropout 0.1", "core"), ("--bf16 --device auto", "sdpa")],
)
def test_the_best_on_a_cpu(flags: str, wanted: str) -> None:
    words = ["--device", "cpu", *flags.split(), "--use-flash-attn-best"]
    assert with_kernel(Config(*parse(GROUPS, words)), LAPTOP).memory.kernel == wanted


def test_what_was_chosen_is_said() -> None:
    wish = config_of(f"{LARGE} --use-flash-attn-best")
    assert note(with_kernel(wish, A100), A100).startswith(
        "attention v2: the first of v3, v4, cudnn"
    )
    small = with_kernel(config_of("--bf16 --use-flash-attn-best"), A100)
    assert note(small, A100).startswith("attention v2: the first of cudnn, v3, v4, v2")
    assert "none is in sight" in note(with_kernel(wish, LOGIN_NODE), LOGIN_NODE)
    assert "by what is installed" in note(with_kernel(wish, NEW_H100), NEW_H100)
    ring = config_of("--bf16 --context-parallel-size 2 --use-flash-attn-best")
    assert "which of sdpa it is" in note(with_kernel(ring, LOGIN_NODE), LOGIN_NODE)
    assert note(config_of("--use-flash-attn-sdpa"), A100) == ""


REFUSED = [
    # flags, machine, words of the message
    ("v1 --bf16", A100, "flash-attn 2.8.3.post1 is installed: "),
    ("v2 --bf16", BARE_H100, "-m pip install --no-build-isolation 'flash-attn>=2.8"),
    ("v2 --bf16", ADA, "flash-attn 1.0.9 is installed"),
    ("v2 --bf16", Machine((8, 0), (TORCH, ("flash-attn", "2.3.6"))), "from 2.5.5"),
    ("v3 --bf16", BARE_H100, "flash-attention#subdirectory=hopper"),
    ("triton", BARE_H100, "pip install triton"),
    ("v3 --bf16", LOGIN_NODE, "it is not installed"),
    ("v3 --bf16", A100, "compute capability 9.0 or more, below 10.0, and this one has 8.0"),
    ("v3 --bf16", BLACKWELL, "below 10.0, and this one has 10.0"),
    ("v4 --bf16", BARE_H100, "-m pip install 'flash-attn-4>=4.0.0b36'"),
    ("v4 --bf16", RTX_4, "below 12.0, and this one has 12.0"),
    ("v4 --bf16 --hidden-size 2048", B200_4, "has a backward for heads above 128 on H100 and"),
    ("v4 --bf16 --attention-dropout 0.1", H100_4, "--attention-dropout 0 in place of 0.1"),
    ("v2 --bf16", TURING, "8.0 or more, and this one has 7.5"),
    ("v1 --bf16", TURING, "or give --fp16"),
    ("v1 --bf16 --hidden-size 1024", ADA, "above 64 on A100 and H100 only"),
    ("v1 --fp16 --hidden-size 1088", ADA, "heads of 8 to 128 and a multiple of 8"),
    ("v2 --bf16 --hidden-size 4096", A100, "heads of 1 to 256, and these are of 512"),
    ("v3 --bf16 --hidden-size 160", H100, "a multiple of 8, and these are of 20"),
    ("triton --hidden-size 64", H100, "heads of 16 to 256, and these are of 8"),
    ("v2 --bf16 --hidden-size 2048 --attention-dropout 0.1", L40, "drops in heads above 192"),
    ("cudnn --bf16", A100, "compute capability 9.0 or more, and this one has 8.0"),
    ("cudnn --bf16 --hidden-size 4096", H100, "heads of 8 to 128 and a multiple of 8"),
    ("cudnn --bf16 --reset-attention-mask", H100, "takes whole samples"),
    ("cudnn --bf16 --deterministic-mode", H100, "in an order that changes"),
    ("cudnn --bf16 --context-parallel-size 2", A100, "compute capability 9.0 or more"),
    ("v2", A100, "bf16 and fp16 only: give --bf16"),
    ("v3 --bf16 --attention-dropout 0.1", H100, "--attention-dropout 0 in place of 0.1"),
    ("triton --attention-dropout 0.1", H100, "has no dropout"),
]


@pytest.mark.parametrize(("flags", "machine", "words"), REFUSED)
def test_refused_with_the_reason(flags: str, machine: Machine, words: str) -> None:
    name = flags.split()[0]
    with pytest.raises(UserError) as raised:
        with_kernel(config_of(f"--use-flash-attn-{flags}"), machine)
    assert words in str(raised.value)
    assert f"--use-flash-attn-{name}" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["v1", "v2", "v3", "v4", "cudnn", "triton"])
@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_gpu_kernels_are_refused_on_a_cpu(name: str, device: str) -> None:
    config = Config(*parse(GROUPS, [f"--use-flash-attn-{name}", "--bf16", "--device", device]))
    with pytest.raises(UserError, match=rf"USE_FLASH_ATTN={name}.*: use USE_FLASH_ATTN=sdpa$"):
        with_kernel(config, LAPTOP)


def test_a_ring_takes_no_other_kernel() -> None:
    for name in ("core", "v2", "v3"):
        flags = "" if name == "core" else f"--use-flash-attn-{name}"
        for blocks in ("--context-parallel-size 2", "--ds-sequence-parallel-fpdt"):
            with pytest.raises(
                UserError, match=r"give --use-flash-attn-sdpa \(USE_FLASH_ATTN=sdpa"
            ):
                with_kernel(config_of(f"--bf16 {blocks} {flags}"), H100)


@pytest.mark.parametrize("flag", ["--context-parallel-size 2", "--ds-sequence-parallel-fpdt"])
@pytest.mark.parametrize(
    ("flags", "machine", "words"),
    [
        ("--bf16 --hidden-size 288", H100, "wants heads of 8 to 256 and a multiple of 8"),  # 36
        ("--bf16 --hidden-size 5120", H100, "wants heads of 8 to 256"),
        ("--bf16 --hidden-size 2048", L40, "above 192 on A100, H100 and B200 only"),
        ("--fp16", TURING, "needs a GPU of compute capability 8.0 or more"),
    ],
)
def test_blocks_are_refused_what_torchs_operator_refuses(
    flag: str, flags: str, machine: Machine, words: str
) -> None:
    """sdpa pads heads and has other kernels for other GPUs; a ring and chunks have this one."""
    for name in ("sdpa", "best"):
        with pytest.raises(UserError, match=rf"^{flag} is made of torch's flash.*{words}.*leave"):
            with_kernel(config_of(f"{flag} {flags} --use-flash-attn-{name}"), machine)


def test_cudnn_makes_blocks_where_it_is_named() -> None:
    flags = "--bf16 --context-parallel-size 2 --use-flash-attn"
    assert with_kernel(config_of(f"{flags}-cudnn"), H100).memory.kernel == "cudnn"
    assert with_kernel(config_of(f"{flags}-best"), H100).memory.kernel == "sdpa"


@pytest.mark.parametrize("flag", ["--context-parallel-size 2", "--ds-sequence-parallel-fpdt"])
@pytest.mark.parametrize("kernel", ["sdpa", "best"])
def test_blocks_on_a_gpu_are_of_half_precision(flag: str, kernel: str) -> None:
    flags = f"{flag} --use-flash-attn-{kernel}".split()
    with pytest.raises(UserError, match=rf"^{flag} is made of .* give --bf16"):
        with_kernel(config_of(" ".join(flags)), H100)
    assert with_kernel(config_of(" ".join([*flags, "--fp16"])), H100).memory.kernel == "sdpa"
    on_cpu = Config(*parse(GROUPS, [*flags, "--device", "cpu"]))
    assert with_kernel(on_cpu, LAPTOP).memory.kernel == "sdpa"


def test_one_list_of_kernels() -> None:
    """What cannot be derived from the list is held to it: the variable, the page, the modules."""
    table = (ROOT / "docs/variables.md").read_text(encoding="utf-8")  # ALCF's own, printed
    (choices,) = re.findall(r"^\| USE_FLASH_ATTN \| ([^|]*) \|", table, re.M)
    named = set(KERNELS) - {"core"}
    assert set(choices.split(", ")) == {"0", "1", *named}
    page = (ROOT / "docs/kernels.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([a-z0-9]+)` \|", page, re.M)) == {"0", *named}
    assert f"the first of **{', '.join(BEST_FIRST)}**" in page
    assert set(BEST_FIRST) <= set(KERNELS)
    for limits in KERNELS.values():
        path = ROOT / f"longseq/attention/kernels/{limits.module}.py"
        source = path.read_text(encoding="utf-8")
        assert "\ndef attend(" in source


def test_the_environments_python_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(ROOT / "venvs/workstation/python3.11"))
    assert in_environment()
    monkeypatch.setattr(sys, "prefix", "/usr")
    assert not in_environment()


def check(
    monkeypatch: pytest.MonkeyPatch, machine: Machine, flags: str, environment: bool = True
) -> int:
    """`longseq check` on a machine that we describe, by the environment's Python or another."""
    monkeypatch.setattr(prepare_run, "this_machine", lambda: machine)
    monkeypatch.setattr(prepare_run, "in_environment", lambda: environment)
    return run_verb(["check", *flags.split()])


def test_the_check_says_what_it_chose(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(monkeypatch, LAPTOP, "--dry-run --use-flash-attn-best --device cpu") == 0
    assert capsys.readouterr().err.startswith(
        "attention sdpa: the first of v3, v4, cudnn, v2, sdpa, core"
    )
    assert check(monkeypatch, A100, "--dry-run --use-flash-attn-best --bf16") == 0
    assert capsys.readouterr().err.startswith("attention v2: ")


def test_another_pythons_packages_say_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A dry run, and the check before an installation, are by the machine's own Python."""
    flags = "--dry-run --bf16 --use-flash-attn"
    assert check(monkeypatch, BARE_H100, f"{flags}-v2", environment=False) == 0
    assert check(monkeypatch, BARE_H100, f"{flags}-best", environment=False) == 0
    assert "by what is installed when it runs" in capsys.readouterr().err
    with pytest.raises(UserError, match="not installed"):
        check(monkeypatch, BARE_H100, f"{flags}-v2")


def test_the_check_loads_a_package_where_its_gpu_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    monkeypatch.delitem(sys.modules, "longseq.attention.kernels.flash_v2", raising=False)
    with pytest.raises(UserError, match="its package does not load"):
        check(monkeypatch, A100, "--use-flash-attn-best --bf16")
    with pytest.raises(UserError, match="--data-path is missing"):
        check(monkeypatch, LOGIN_NODE, "--use-flash-attn-v2 --bf16 --device cuda")


def test_a_gpu_that_does_not_say_what_it_is() -> None:
    with pytest.raises(UserError, match="name a kernel, such as USE_FLASH_ATTN=sdpa"):
        kernel("best")


def test_needs_no_torch() -> None:
    """The login node checks a run before anything is installed."""
    code = "import sys; import longseq.config.checks; print(int('torch' in sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "0\n"


DRIVER = """
int cuInit(unsigned flags) { return FAIL; }
int cuDeviceGetCount(int *count) { *count = COUNT; return 0; }
int cuDeviceGet(int *device, int number) { *device = number; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 9 - device : attribute == 76 ? 2 * device : -1;
    return 0;
}
"""


@pytest.mark.parametrize(
    ("fail", "count", "wanted"), [(0, 1, (9, 0)), (0, 2, (8, 2)), (0, 0, None), (100, 1, None)]
)
def test_the_driver_is_asked(
    tmp_path: Path, fail: int, count: int, wanted: tuple[int, int] | None
) -> None:
    """A driver of our own: two GPUs of 9.0 and 8.2 are as able as the weaker one."""
    source, library = tmp_path / "driver.c", tmp_path / "driver.so"
    source.write_text(DRIVER)
    flags = [f"-DFAIL={fail}", f"-DCOUNT={count}", "-shared", "-fPIC"]
    subprocess.run(["cc", *flags, "-o", str(library), str(source)], check=True)
    assert gpu_capability(str(library)) == wanted


def test_no_driver_is_no_gpu() -> None:
    assert gpu_capability("libnothing-of-ours.so.1") is None
