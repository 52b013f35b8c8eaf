"""Our checked configuration → Megatron-DeepSpeed's argument list and DeepSpeed's settings for it.

    words = upstream_arguments(config, vocabulary)    # raises UserError for what it cannot do
    settings = upstream_settings(config)

Every flag of ours either becomes words of its parser, or is ours to do around it (data, screen,
folder), or is refused by its name. Standard library only.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from longseq.checkpoint.format.folder import is_theirs
from longseq.config.arguments import GROUPS, Config, Training
from longseq.config.flags import flags_of
from longseq.config.network import Network
from longseq.engine.ds_config import deepspeed_settings
from longseq.errors import UserError

# Those that our flags may name; what the best one is depends on what is installed
KERNELS = {"v1": "v1", "v2": "v2", "triton": "triton", "sdpa": "v2", "core": ""}
HERE = "TRAINER=longseq does it"
# Flags of ours that become words of its, and those that we see to around it
TAKEN = frozenset(
    "num_layers hidden_size num_attention_heads ffn_hidden_size seq_length max_position_embeddings"
    " normalization layernorm_epsilon swiglu disable_bias_linear"
    " untie_embeddings_and_output_weights use_rotary_position_embeddings rotary_percent rope_theta"
    " attention_dropout hidden_dropout init_method_std make_vocab_size_divisible_by"
    " tensor_model_parallel_size pipeline_model_parallel_size ds_sequence_parallel_size"
    " sequence_parallel use_flash_attn_v1 use_flash_attn_v2 use_flash_attn_triton"
    " use_flash_attn_sdpa use_flash_attn_best checkpoint_activations recompute_granularity"
    " recompute_num_layers checkpoint_in_cpu micro_batch_size global_batch_size train_iters"
    " optimizer lr min_lr lr_decay_style lr_decay_iters lr_warmup_fraction lr_warmup_iters"
    " weight_decay adam_beta1 adam_beta2 adam_eps clip_grad seed bf16 fp16 zero_stage"
    " cpu_optimizer remote_device reset_position_ids reset_attention_mask eod_mask_loss save load"
    " save_interval eval_interval eval_iters"
    " device deepspeed_overrides deepspeed_config data_path tokenizer_type split split_seed"
    " valid_records test_records reverse_complement_prob trainer megatron_deepspeed_dir as_shipped"
    " run_dir log_interval hang_timeout tensorboard_dir wandb_project".split()
)
ALWAYS = (
    # No kernels of its own build; data go through our samples, in this process
    "--no-masked-softmax-fusion --no-gradient-accumulation-fusion"
    " --no-query-key-layer-scaling --attention-softmax-in-fp32"
    " --tokenizer-type NullTokenizer --num-workers 0 --log-interval 1 --deepspeed"
).split()


def upstream_arguments(config: Config, vocabulary: int) -> list[str]:
    """The words for its parser; `vocabulary` is the data's, 0 where it is not known yet."""
    check(config)
    parts = (_network(config), _layout(config), _memory(config), _training(config), _run(config))
    words = [word for part in parts for word in part] + ALWAYS
    return words + (["--vocab-size", str(vocabulary)] if vocabulary else [])


def check(config: Config) -> None:
    """Refuse what it has no way to do, by the flag's name: every flag that is not in TAKEN, and
    values that those may not have.
    """
    for item in (flag for group in GROUPS for flag in flags_of(group)):
        value = getattr(_group_of(config, item.field), item.field)
        if item.field not in TAKEN and value != item.default:
            _refuse(item.name if item.kind is bool else f"{item.name} {value}")
    net, memory, train = config.network, config.memory, config.training
    for what, is_asked in {
        f"--rope-theta {net.rope_theta}, no whole number,": not net.rope_theta.is_integer(),
        f"--recompute-granularity {memory.recompute_granularity}": (
            memory.recompute_granularity in ("pointwise", "outside-attention")
        ),
        f"--optimizer {train.optimizer}": train.optimizer != "adam",
        f"--remote-device {train.remote_device}": train.remote_device == "nvme",
        "--seed 0": train.seed == 0,
    }.items():
        if is_asked:
            _refuse(what)
    _check_layout(config)


def _group_of(config: Config, field: str) -> Any:
    return next(part for part in vars(config).values() if hasattr(part, field))


def _refuse(what: str) -> NoReturn:
    raise UserError(f"{what}: TRAINER=megatron-deepspeed has none; {HERE}, or leave it out")


def _check_layout(config: Config) -> None:
    """Combinations that fail or go wrong inside of it."""
    axes, data, train = config.layout, config.data, config.training
    kernel = attention_kernel(config)
    if axes.ulysses > 1 and axes.sequence_parallel:
        raise UserError(
            "--sequence-parallel with --ds-sequence-parallel-size (SPSIZE): it takes one of them"
        )
    if axes.sequence_parallel and not config.network.use_rotary_position_embeddings:
        raise UserError(
            "--sequence-parallel with learned positions (USE_ROTARY=0): its ranks look positions up"
            " that they do not hold; use USE_ROTARY=1, or USE_SEQUENCE_PARALLEL=0"
        )
    if axes.pp > 1:
        if axes.ulysses > 1:
            raise UserError(
                "PPSIZE with SPSIZE: its pipeline has no Ulysses; leave one of them out"
            )
        if train.zero_stage > 1:
            raise UserError(
                f"PPSIZE={axes.pp} with ZERO_STAGE={train.zero_stage}: DeepSpeed's pipeline takes"
                " stage 0 or 1"
            )
        if config.network.num_layers % axes.pp:
            raise UserError(
                f"PPSIZE={axes.pp} does not divide the {config.network.num_layers} layers"
            )
        if config.run.as_shipped and config.network.use_rotary_position_embeddings:
            raise UserError(
                "PPSIZE with UPSTREAM_FIXES=0: as shipped its pipeline stops at rotary positions;"
                " use USE_ROTARY=0, or UPSTREAM_FIXES=1"
            )
    if 0 < train.decay_iters <= train.warmup_iters:
        raise UserError(
            f"--lr-warmup-iters {train.warmup_iters} with --lr-decay-iters {train.decay_iters}: its"
            f" learning rate must have iterations left to fall in; give more of these, or {HERE}"
        )
    if axes.ulysses > 1 and kernel == "core":
        raise UserError(
            "SPSIZE with USE_FLASH_ATTN=0: its Ulysses leaves the rotary positions out of attention"
            " that is written out: use USE_FLASH_ATTN=1"
        )
    if data.reset_attention_mask and kernel != "core":
        raise UserError(
            "--reset-attention-mask: its flash attention has no mask, so nothing would end at"
            f" documents: use USE_FLASH_ATTN=0, or {HERE}"
        )


def attention_kernel(config: Config) -> str:
    """v1, v2, triton or core. Where the best was asked for: v2, and what stands in for it."""
    memory = config.memory
    return "v2" if memory.chosen or memory.kernel == "best" else memory.kernel


def _network(config: Config) -> list[str]:
    net = config.network
    words = _pairs(
        num_layers=net.num_layers,
        hidden_size=net.hidden_size,
        num_attention_heads=net.num_attention_heads,
        ffn_hidden_size=net.ffn_size,
        seq_length=net.seq_length,
        max_position_embeddings=net.positions,
        normalization=net.normalization,
        layernorm_epsilon=net.layernorm_epsilon,
        attention_dropout=net.attention_dropout,
        hidden_dropout=net.hidden_dropout,
        init_method_std=net.init_method_std,
        # It pads to a multiple of this times the tensor-parallel ranks, and ours divides by them
        make_vocab_size_divisible_by=net.make_vocab_size_divisible_by // config.layout.tp,
    )
    words += _switches(net, "swiglu", "disable_bias_linear", "untie_embeddings_and_output_weights")
    return words + _positions(net)


def _positions(net: Network) -> list[str]:
    if not net.use_rotary_position_embeddings:
        return []
    return [
        "--use-rotary-position-embeddings",
        *_pairs(
            rotary_percent=net.rotary_size / net.head_size,
            rotary_position_embeddings_theta=int(net.rope_theta),
        ),
    ]


def _layout(config: Config) -> list[str]:
    axes = config.layout
    words = _pairs(
        tensor_model_parallel_size=axes.tp,
        pipeline_model_parallel_size=axes.pp,
        ds_sequence_parallel_size=axes.ulysses,
    )
    words += ["--no-pipeline-parallel"] * (axes.pp == 1)
    return words + _switches(axes, "sequence_parallel")


def _memory(config: Config) -> list[str]:
    memory, words = config.memory, []
    if flag := KERNELS[attention_kernel(config)]:
        words.append(f"--use-flash-attn-{flag}")
    if recomputes_all(config):
        words += ["--checkpoint-activations", "--deepspeed-activation-checkpointing"]
        words += _pairs(checkpoint_num_layers=memory.recompute_num_layers)
    elif memory.recompute_granularity == "selective":
        words += ["--recompute-granularity", "selective"]
    return words + _switches(memory, "checkpoint_in_cpu")


def recomputes_all(config: Config) -> bool:
    """Are all layers made again in backward? It cannot choose by the memory there is: on a GPU yes,
    as its published runs did, on a CPU no.
    """
    memory = config.memory
    if memory.recompute_granularity == "auto" and not memory.checkpoint_activations:
        return config.training.device != "cpu"
    return memory.recomputes_layers


def _warmup(train: Training) -> dict[str, Any]:
    """Its iterations are whole ones; a fraction it multiplies as we do."""
    if float(train.warmup_iters).is_integer():
        return {"lr_warmup_iters": int(train.warmup_iters)}
    return {"lr_warmup_fraction": train.lr_warmup_fraction}


def _training(config: Config) -> list[str]:
    train = config.training
    words = _pairs(
        micro_batch_size=train.micro_batch_size,
        global_batch_size=config.global_batch_size,
        train_iters=train.train_iters,
        optimizer=train.optimizer,
        lr=train.lr,
        min_lr=train.min_lr,
        lr_decay_style=train.lr_decay_style,
        lr_decay_iters=train.decay_iters,
        **_warmup(train),
        weight_decay=train.weight_decay,
        adam_beta1=train.adam_beta1,
        adam_beta2=train.adam_beta2,
        adam_eps=train.adam_eps,
        clip_grad=train.clip_grad,
        seed=train.seed,
        zero_stage=train.zero_stage,
        remote_device=train.remote_device,
    )
    if train.device == "cpu":
        words += ["--distributed-backend", "gloo"]
    return words + _switches(train, "bf16", "fp16", "cpu_optimizer")


def _run(config: Config) -> list[str]:
    run, data = config.run, config.data
    words = _pairs(eval_iters=run.eval_iters, eval_interval=run.eval_interval or 10**9)
    if run.save:
        every = run.save_interval or config.training.train_iters
        words += _pairs(save=run.save, save_interval=every)
    if run.load and is_theirs(Path(run.load)):
        # Else it stops where the schedule is another than that of the checkpoint
        words += ["--load", run.load, "--override-opt_param-scheduler"]
    if run.run_dir:
        words += ["--deepspeed_config", f"{run.run_dir}/ds_config.json"]
    return words + _switches(data, "reset_position_ids", "reset_attention_mask", "eod_mask_loss")


def upstream_settings(config: Config) -> dict[str, Any]:
    """DeepSpeed's settings: ours, with the batch left to it, which divides by its own ranks."""
    given = config.training.deepspeed_config
    if given and given == f"{config.run.run_dir}/ds_config.json":  # what they are written to
        config = replace(config, training=replace(config.training, deepspeed_config=""))
    settings = deepspeed_settings(config)
    settings.pop("train_batch_size", None)
    return settings


def _pairs(**values: object) -> list[str]:
    """`--name value` for each."""
    words: list[str] = []
    for name, value in values.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    return words


def _switches(group: object, *names: str) -> list[str]:
    """`--name` for each field of `group` that is on."""
    return [f"--{name.replace('_', '-')}" for name in names if getattr(group, name)]
