"""What each attention kernel can do, and which one is taken when the best is asked for.

    config = with_kernel(config, this_machine())   # "best" becomes a name, where that is known
    reason = why_not("v3", config, this_machine())  # "" if it can do this run here

Standard library only: the login node asks before any rank starts.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

from longseq.config.arguments import Config
from longseq.errors import UserError
from longseq.host.machine import Machine

# The first of these that can do a run is the best. v1 and triton act only where they are named:
# torch's own kernels descend from flash-attn 2's and need no package.
ORDER = ("v3", "v2", "sdpa", "core")


@dataclass(frozen=True)
class Limits:
    """What one kernel needs; capabilities are of the GPU, `below` is the first that is too new."""

    title: str
    package: str = ""
    versions: tuple[str, str] = ("", "")  # from, and the first that is too new
    install: str = ""
    capability: tuple[int, int] = (0, 0)
    below: tuple[int, int] = (99, 0)
    half: bool = False  # only in bf16 and fp16
    heads: tuple[int, int, int] = (1, 1 << 30, 1)  # smallest, largest, multiple of
    dropout: bool = True


LIMITS = {
    "v1": Limits(
        "flash-attn 1",
        package="flash-attn",
        versions=("1.0", "2"),
        install="'flash-attn>=1.0.9,<2'",
        capability=(7, 5),
        below=(9, 1),
        half=True,
        heads=(8, 128, 8),
    ),
    "v2": Limits(
        "flash-attn 2",
        package="flash-attn",
        versions=("2.5.5", "3"),  # the first whose backward takes heads of 256 on every GPU
        install="'flash-attn>=2.8,<3'",
        capability=(8, 0),
        half=True,
        heads=(1, 256, 1),
    ),
    "v3": Limits(
        "FlashAttention-3",
        package="flash-attn-3",
        versions=("3.0", "4"),
        install="'flash-attn-3 @ git+https://github.com/Dao-AILab/flash-attention#subdirectory=hopper'",
        capability=(9, 0),
        below=(10, 0),
        half=True,
        heads=(8, 256, 8),
        dropout=False,
    ),
    "triton": Limits(
        "FlexAttention, a Triton kernel,",
        package="triton",
        versions=("3.0", "99"),
        install="triton",
        capability=(7, 0),
        heads=(16, 256, 1),
        dropout=False,
    ),
}


def with_kernel(config: Config, machine: Machine) -> Config:
    """`config` with the best kernel named; left as it is where the GPUs or packages are not here.

    Raises UserError if the kernel that is asked for, or any, cannot do this run.
    """
    wish = config.memory.kernel
    if wish != "best":
        reason = why_not(wish, config, machine)
        if reason:
            raise UserError(reason)
        return config
    if undecided(config, machine):
        return config
    for name in ORDER:
        if not why_not(name, config, machine):
            return replace(config, memory=replace(config.memory, chosen=name))
    raise UserError(why_not("sdpa", config, machine))


def undecided(config: Config, machine: Machine) -> bool:
    """Is the best kernel to be chosen elsewhere: on a GPU that is not here, or once installed?"""
    if machine.capability is None:
        return config.training.device == "cuda"
    return config.training.device != "cpu" and not machine.installed


def note(config: Config, machine: Machine) -> str:
    """What was chosen, for the screen, or why it is not yet; empty where the user named one."""
    if config.memory.chosen:
        order = ", ".join(ORDER)
        return f"attention {config.memory.chosen}: the first of {order} that can do this run here"
    if config.memory.kernel != "best":
        return ""
    where = "on the run's GPUs, as none is in sight here"
    if machine.capability is not None:
        where = "by what is installed when it runs"
    return f"attention: which of {', '.join(ORDER)} it is will be chosen {where}"


def why_not(name: str, config: Config, machine: Machine) -> str:
    """Why kernel `name` cannot do this run, with the remedy, in a line; empty if it can.

    What is not known, such as GPUs that are not in sight, is no reason.
    """
    on_cpu = config.training.device == "cpu" or (
        config.training.device == "auto" and machine.capability is None
    )
    asked = f"--use-flash-attn-{name} (USE_FLASH_ATTN={name})"
    made_of = _made_of_sdpa(name, config)
    if made_of:
        return made_of
    if name == "sdpa" and on_cpu and config.network.attention_dropout > 0:
        return (
            f"--attention-dropout {config.network.attention_dropout}: torch's flash kernel has no"
            " dropout on CPUs: use 0, or the core kernel (USE_FLASH_ATTN=0)"
        )
    if name not in LIMITS:
        return ""
    limits = LIMITS[name]
    if on_cpu:
        lack = "has no backward on CPUs" if name == "triton" else "runs on GPUs only"
        return f"{asked}: {limits.title} {lack}: use USE_FLASH_ATTN=sdpa"
    reason = _shape(limits, config) or _gpu(name, limits, config, machine)
    if reason:
        return f"{asked}: {limits.title} {reason}"
    return _package(asked, limits, machine)


def _made_of_sdpa(name: str, config: Config) -> str:
    """What is asked for that works with torch's flash kernels only."""
    if config.layout.ring > 1 and (name != "sdpa" or config.network.attention_dropout > 0):
        return (
            f"--context-parallel-size {config.layout.ring}: ring attention is made of torch's flash"
            " kernels: give --use-flash-attn-sdpa, and no --attention-dropout"
        )
    if config.memory.ds_sequence_parallel_fpdt and name != "sdpa":
        return (
            "--ds-sequence-parallel-fpdt works with torch's flash kernels: give"
            " --use-flash-attn-sdpa (USE_FLASH_ATTN=sdpa)"
        )
    return ""


def _shape(limits: Limits, config: Config) -> str:
    """What of precision, heads and dropout does not fit."""
    smallest, largest, multiple = limits.heads
    size = config.network.head_size
    if limits.half and config.training.dtype == "fp32":
        return "computes in bf16 and fp16 only: give --bf16 (DTYPE=bf16), or use sdpa"
    if not smallest <= size <= largest or size % multiple:
        step = f" and a multiple of {multiple}" if multiple > 1 else ""
        return (
            f"wants heads of {smallest} to {largest}{step}, and these are of {size} (--hidden-size"
            f" {config.network.hidden_size} / --num-attention-heads"
            f" {config.network.num_attention_heads}): change those, or use sdpa"
        )
    if config.network.attention_dropout > 0 and not limits.dropout:
        return (
            f"has no dropout: give --attention-dropout 0 in place of"
            f" {config.network.attention_dropout}, or use sdpa"
        )
    return ""


def _gpu(name: str, limits: Limits, config: Config, machine: Machine) -> str:
    """What of the GPU does not fit."""
    has = machine.capability
    if has is None:
        return ""
    size = config.network.head_size
    these = f"and this one has {has[0]}.{has[1]}: use sdpa"
    if not limits.capability <= has < limits.below:
        low = ".".join(map(str, limits.capability))
        high = f", below {'.'.join(map(str, limits.below))}" if limits.below < (99, 0) else ""
        return f"needs a GPU of compute capability {low} or more{high}, {these}"
    if name == "v1" and has < (8, 0) and config.training.bf16:
        return f"computes in bf16 from compute capability 8.0, {these}, or give --fp16"
    drops = config.network.attention_dropout > 0
    if name == "v2" and size > 192 and drops and has != (8, 0) and has[0] not in (9, 10):
        return f"drops in heads above 192 on A100, H100 and B200 only, {these}"  # else: no backward
    if name == "v1" and size > 64 and has not in ((8, 0), (9, 0)):
        return f"has a backward for heads above 64 on A100 and H100 only (8.0, 9.0), {these}"
    return ""


def _package(asked: str, limits: Limits, machine: Machine) -> str:
    """What has to be installed."""
    if not machine.installed:
        return ""
    version = machine.version(limits.package)
    low, high = limits.versions
    if version and _numbers(low) <= _numbers(version) < _numbers(high):
        return ""
    found = f"{limits.package} {version} is installed" if version else "it is not installed"
    isolation = "" if limits.package == "triton" else "--no-build-isolation "
    return (
        f"{asked} needs {limits.package} from {low}, below {high}, and {found}:"
        f" {sys.executable} -m pip install {isolation}{limits.install}, or use sdpa"
    )


def _numbers(version: str) -> tuple[int, ...]:
    """(2, 8, 3) of "2.8.3.post1+cu12": enough to compare releases."""
    numbers = []
    for part in version.split("+")[0].split("."):
        digits = ""
        for letter in part:
            if not letter.isdigit():
                break
            digits += letter
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)
