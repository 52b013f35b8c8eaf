"""Which attention kernel a run gets: the one it names, refused if it cannot, or the best.

    config = with_kernel(config, this_machine())   # "best" becomes a name, where that is known
    reason = why_not("v3", config, this_machine())  # "" if it can do this run here

attention/limits.py says what each kernel needs. Standard library only: the login node asks before
any rank starts.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from longseq.attention.limits import (
    BEST_FIRST,
    BEST_IN_BLOCKS,
    FLASH_BLOCKS,
    KERNELS,
    LargeHeads,
    Limits,
)
from longseq.config.arguments import Config
from longseq.errors import UserError
from longseq.host import machine as host
from longseq.host.machine import Machine

LAUNCHED = (
    1e12  # operations of a layer that an H200 does while its host launches one: docs/kernels.md
)
PACKAGES = {"torch": ("torch",)} | {
    limits.package: (limits.package, *limits.also) for limits in KERNELS.values() if limits.package
}


def this_machine() -> Machine:
    """The GPU that this process sees, and the versions of the kernels' packages."""
    return host.this_machine(tuple(PACKAGES.items()))


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
    for name in _best_first(config):
        if not why_not(name, config, machine):
            return replace(config, memory=replace(config.memory, chosen=name))
    raise UserError(why_not("sdpa", config, machine))


def undecided(config: Config, machine: Machine) -> bool:
    """Is the best kernel to be chosen elsewhere: on a GPU that is not here, or once installed?"""
    if machine.capability is None:
        return config.training.device == "cuda"
    return config.training.device != "cpu" and not machine.installed


def why_chosen(config: Config) -> str:
    """Why it is this kernel; empty where the user named one, or it is chosen elsewhere."""
    order = ", ".join(_best_first(config))
    return f"the first of {order} that can do this run here" if config.memory.chosen else ""


def note(config: Config, machine: Machine) -> str:
    """What was chosen, for the screen, or why it is not yet; empty where the user named one."""
    if why := why_chosen(config):
        return f"attention {config.memory.chosen}: {why}"
    if config.memory.kernel != "best":
        return ""
    where = "on the run's GPUs, as none is in sight here"
    if machine.capability is not None:
        where = "by what is installed when it runs"
    return f"attention: which of {', '.join(_best_first(config))} it is will be chosen {where}"


def why_not(name: str, config: Config, machine: Machine) -> str:
    """Why kernel `name` cannot do this run, with the remedy, in a line; empty if it can.

    What is not known, such as GPUs that are not in sight, is no reason.
    """
    on_cpu = config.training.device == "cpu" or (
        config.training.device == "auto" and machine.capability is None
    )
    limits, asked = KERNELS[name], f"--use-flash-attn-{name} (USE_FLASH_ATTN={name})"
    dropout = config.network.attention_dropout
    if in_blocks := _needs_blocks(limits, config):
        return in_blocks
    if on_cpu and dropout > 0 and not limits.dropout_on_cpu:
        return (
            f"--attention-dropout {dropout}: {limits.title} has no dropout on CPUs: use 0, or the"
            " core kernel (USE_FLASH_ATTN=0)"
        )
    if on_cpu and limits.no_cpu:
        return f"{asked}: {limits.title} {limits.no_cpu}: use USE_FLASH_ATTN=sdpa"
    reason = _shape(limits, config) or _gpu(limits, config, machine)
    if reason:
        return f"{asked}: {limits.title} {reason}"
    if name == "sdpa" and not on_cpu and (blocks := _blocks(config)):
        reason = _shape(FLASH_BLOCKS, config) or _gpu(FLASH_BLOCKS, config, machine)
        if reason:
            return f"{blocks} is made of {FLASH_BLOCKS.title}, which {reason}"
    return _package(asked, limits, machine)


def _best_first(config: Config) -> tuple[str, ...]:
    """The kernels among which the best is looked for, the best first."""
    if _blocks(config):
        return BEST_IN_BLOCKS
    return tuple(dict.fromkeys(("cudnn", *BEST_FIRST))) if waits_for_host(config) else BEST_FIRST


def waits_for_host(config: Config) -> bool:
    """Is a GPU done with a layer before the host has launched one around v3 or v4?

    cuDNN's is a part of a layer that is compiled in one piece, which a host launches in half the
    time. A layer's products, there and back: Eq. 3 of arXiv:2104.04473, of which attention's half.
    """
    net = config.network
    tokens = config.training.micro_batch_size * net.seq_length
    work = tokens * net.hidden_size * (72 * net.hidden_size + 6 * net.seq_length)
    compiled = config.training.compile != "off" and config.training.device != "cpu"
    return compiled and config.layout.model_ranks == 1 and work < LAUNCHED


def _blocks(config: Config) -> str:
    """The flag that asks for attention in blocks (blocks.py), if one does."""
    if config.layout.ring > 1:
        return f"--context-parallel-size {config.layout.ring}"
    return "--ds-sequence-parallel-fpdt" if config.memory.ds_sequence_parallel_fpdt else ""


def _needs_blocks(limits: Limits, config: Config) -> str:
    """Why this kernel cannot do what is made of blocks of another; empty if nothing is."""
    sdpa, cudnn = (f"--use-flash-attn-{k} (USE_FLASH_ATTN={k})" for k in ("sdpa", "cudnn"))
    names = f"{sdpa}, or {cudnn} on Hopper"
    if config.layout.ring > 1 and not (limits.in_blocks and config.network.attention_dropout == 0):
        return (
            f"--context-parallel-size {config.layout.ring}: ring attention is made of torch's"
            f" kernels: give {names}, and no --attention-dropout"
        )
    if config.memory.ds_sequence_parallel_fpdt and not limits.in_blocks:
        return f"--ds-sequence-parallel-fpdt works with torch's kernels: give {names}"
    return ""


def _shape(limits: Limits, config: Config) -> str:
    """What of precision, heads and dropout does not fit."""
    smallest, largest, multiple = limits.heads
    size = config.network.head_size
    if limits.half and config.training.dtype == "fp32":
        return f"computes in bf16 and fp16 only: give --bf16 (DTYPE=bf16), or {limits.otherwise}"
    if not smallest <= size <= largest or size % multiple:
        step = f" and a multiple of {multiple}" if multiple > 1 else ""
        return (
            f"wants heads of {smallest} to {largest}{step}, and these are of {size} (--hidden-size"
            f" {config.network.hidden_size} / --num-attention-heads"
            f" {config.network.num_attention_heads}): change those, or {limits.otherwise}"
        )
    if config.data.reset_attention_mask and not limits.documents:
        return "takes whole samples (no --reset-attention-mask): use sdpa"
    if config.training.deterministic_mode and not limits.repeats:
        return "adds gradients in an order that changes (--deterministic-mode): use sdpa"
    if config.network.attention_dropout > 0 and not limits.dropout:
        return (
            f"has no dropout: give --attention-dropout 0 in place of"
            f" {config.network.attention_dropout}, or use sdpa"
        )
    return ""


def _gpu(limits: Limits, config: Config, machine: Machine) -> str:
    """What of the GPU does not fit."""
    has = machine.capability
    if has is None:
        return ""
    these = f"and this one has {has[0]}.{has[1]}: {limits.otherwise}"
    if not limits.capability <= has < limits.below:
        low = ".".join(map(str, limits.capability))
        high = f", below {'.'.join(map(str, limits.below))}" if limits.below < (99, 0) else ""
        return f"needs a GPU of compute capability {low} or more{high}, {these}"
    if config.training.bf16 and has < limits.bf16:
        low = ".".join(map(str, limits.bf16))
        return f"computes in bf16 from compute capability {low}, {these}, or give --fp16"
    if limits.large and _too_large(limits.large, config, has):
        what = "drops in heads" if limits.large.with_dropout else "has a backward for heads"
        return f"{what} above {limits.large.size} on {limits.large.names} only, {these}"
    return ""


def _too_large(large: LargeHeads, config: Config, has: tuple[int, int]) -> bool:
    """Are heads so large that this GPU has no backward for them?"""
    if large.with_dropout and config.network.attention_dropout == 0:
        return False
    able = any(low <= has < high for low, high in large.gpus)
    return config.network.head_size > large.size and not able


def _package(asked: str, limits: Limits, machine: Machine) -> str:
    """What has to be installed."""
    if not machine.installed or not limits.package:
        return ""
    version = machine.version(limits.package)
    low, high = limits.versions
    if version and _release(low) <= _release(version) < _release(high):
        return ""
    found = f"{limits.package} {version} is installed" if version else "it is not installed"
    return (
        f"{asked} needs {limits.package} from {low}, below {high}, and {found}:"
        f" {sys.executable} -m pip install {limits.install}, or use sdpa"
    )


def _release(version: str) -> tuple[int, ...]:
    """(2, 8, 3) of "2.8.3.post1+cu12": a beta of 3.0 has what 3.0 has."""
    from packaging.version import Version  # not where a bare Python checks a run

    return Version(version).release
