"""Arguments of Megatron-DeepSpeed that are none here → what to do instead (docs/upstream.md).

    told("--num-query-groups")      # "give --num-key-value-heads"; "" for a name that is not known
    without_local_rank(argv, "0")   # argv without the --local_rank=0 that launchers put into it

LEAVE_OUT has those that could change nothing here: how its engine, its files or its fused kernels
go about what is done in any case. Nothing is silently ignored, so these are refused, too, but all
in one message.
"""

from collections.abc import Sequence

from longseq.errors import UserError

LEAVE_OUT = frozenset(
    """
    --DDP-impl --attention-softmax-in-fp32 --contigious-checkpointing --data-impl --deepspeed
    --deepspeed-activation-checkpointing
    --deepspeed_mpi --distributed-backend --exit-on-missing-checkpoint --exit-signal-handler
    --hysteresis --lazy-mpu-init --local-rank --local_rank --log-batch-size-to-tensorboard
    --log-memory-to-tensorboard --log-num-zeros-in-grad --log-optimizer-states-to-tensorboard
    --log-params-norm --log-timers-to-tensorboard --log-validation-ppl-to-tensorboard
    --log-world-size-to-tensorboard --mmap-warmup --no-async-tensor-model-parallel-allreduce
    --no-barrier-with-level-1-timing --no-bias-dropout-fusion
    --no-contiguous-buffers-in-local-ddp --no-data-sharding --no-gradient-accumulation-fusion
    --no-initialization --no-log-learnig-rate-to-tensorboard --no-log-loss-scale-to-tensorboard
    --no-masked-softmax-fusion --no-persist-layer-norm --no-pipeline-parallel
    --no-query-key-layer-scaling --no-scatter-gather-tensors-in-pipeline --num-workers
    --overlap-grad-reduce --overlap-p2p-communication --overlap-param-gather
    --override-opt_param-scheduler --synchronize-each-layer --tensorboard-log-interval
    --tensorboard-queue-size --timing-log-level --timing-log-option --transformer-impl
    --use-checkpoint-opt_param-scheduler --use-cpu-initialization --use-mcore-models
    --use-pin-memory --wandb-exp-name --wandb-save-dir --zero-contigious-gradients
    --zero-reduce-scatter
    """.split()
)

ITERATIONS = "give --train-iters (TRAIN_ITERS), samples over the global batch"
TOKENS = "give --train-iters (TRAIN_ITERS), tokens over the global batch times --seq-length"
DECAY = "give --lr-decay-iters"
WARMUP = "give --lr-warmup-fraction (LR_WARMUP_FRACTION) or --lr-warmup-iters"
VOCABULARY = (
    "leave it out, a vocabulary comes with DATA_PATH; of text give --tokenizer-type"
    " gpt2:VOCAB,MERGES or huggingface:FILE"
)
WEIGHTS = (
    "./longseq.sh checkpoint convert RUN --output FOLDER --weights-only leaves the optimizer's"
    " state out, and LOAD=FOLDER goes on from its iteration"
)
SAVED = "./longseq.sh checkpoint convert RUN --output FOLDER --weights-only makes one without it"
SPREAD = "--sequence-parallel shares out what layers keep"
HELD_OUT = "give --data-path with --split, or --valid-records and --test-records"
SCALE = 'give a file with a section "fp16" to --deepspeed-overrides (DS_CONFIG)'
STEADY = "give --weight-decay, which stays the same"
EXPERTS = "leave it out, there are no experts"
PIPELINE = "leave it out, there is no pipeline but that of TRAINER=megatron-deepspeed"
FLASH = "give --use-flash-attn-best (USE_FLASH_ATTN=1)"
ROPE = "give --use-rotary-position-embeddings (USE_ROTARY=1)"
INSTEAD = {
    "--accumulate-allreduce-grads-in-fp32": "leave it out, with --bf16 gradients are added up in"
    " fp32",
    "--aml-data-download-path": "give --data-path (DATA_PATH)",
    "--batch-size": "give --micro-batch-size (MICRO_BATCH)",
    "--checkpoint-num-layers": "give --recompute-num-layers",
    "--cpu_torch_adam": "leave it out, --cpu-optimizer has DeepSpeed's",
    "--data-cache-path": "set LONGSEQ_CACHE",
    "--data-efficiency-curriculum-learning": "give --curriculum-seq-length",
    "--dataloader-type": "leave it out, samples are in an order drawn by --seed",
    "--distribute-checkpointed-activations": SPREAD,
    "--distribute-saved-activations": SPREAD,
    "--distributed-timeout-minutes": "give --hang-timeout, in seconds",
    "--encoder-num-layers": "give --num-layers",
    "--encoder-seq-length": "give --seq-length (SEQ_LEN)",
    "--end-weight-decay": STEADY,
    "--exit-duration-in-mins": "set WALLTIME",
    "--exit-interval": "give --train-iters, and the schedule's length as --lr-decay-iters",
    "--finetune": WEIGHTS,
    "--group-query-attention": "leave it out and give --num-key-value-heads",
    "--initial-loss-scale": SCALE,
    "--kill-switch-file": "touch RUN/STOP ends a run with a checkpoint",
    "--kv-channels": "leave it out, a head is --hidden-size over --num-attention-heads",
    "--load-tag": "name the checkpoint itself, --load FOLDER/step-N (LOAD)",
    "--loss-scale": SCALE,
    "--loss-scale-window": SCALE,
    "--lr-decay-samples": DECAY,
    "--lr-decay-tokens": DECAY,
    "--lr-warmup-samples": WARMUP,
    "--lr-warmup-tokens": WARMUP,
    "--merge-file": VOCABULARY,
    "--min-loss-scale": SCALE,
    "--model-parallel-size": "give --tensor-model-parallel-size (MPSIZE)",
    "--moe-expert-parallel-size": EXPERTS,
    "--no-bias-gelu-fusion": "leave it out, GELU is the tanh form, and not the exact one that this"
    " takes there",
    "--no-load-lr-state": "give --lr and --lr-decay-iters, which win over those of LOAD",
    "--no-load-optim": WEIGHTS,
    "--no-load-rng": "leave it out, data and dropout follow from --seed and the place in the data",
    "--no-position-embedding": ROPE,
    "--no-save-optim": SAVED,
    "--no-save-rng": "leave it out, it is a few bytes of a checkpoint",
    "--num-experts": EXPERTS,
    "--num-layers-per-virtual-pipeline-stage": PIPELINE,
    "--num-query-groups": "give --num-key-value-heads",
    "--partition-activations": SPREAD,
    "--pipeline-model-parallel-split-rank": PIPELINE,
    "--position-embedding-type": ROPE,
    "--rampup-batch-size": "leave it out, the batch stays the same; --curriculum-seq-length lets"
    " samples grow",
    "--recompute-activations": "give --recompute-granularity selective",
    "--rotary-base": "give --rope-theta",
    "--rotary-position-embeddings-theta": "give --rope-theta",
    "--sgd-momentum": "leave it out, --optimizer sgd has none",
    "--skip-train": "./longseq.sh evaluate RUN does that",
    "--start-weight-decay": STEADY,
    "--test-data-path": HELD_OUT,
    "--tokenizer-model": "give --tokenizer-type huggingface:FILE",
    "--train-data-path": HELD_OUT,
    "--train-samples": ITERATIONS,
    "--train-tokens": TOKENS,
    "--universal-checkpoint": "leave it out, --load takes a checkpoint on any layout",
    "--use-checkpoint-args": "leave it out, LOAD goes on with the settings of the run before",
    "--use-distributed-optimizer": "give --zero-stage 1 (ZERO_STAGE)",
    "--use-flash-attn": FLASH,
    "--use-flash-attn-builder": FLASH,
    "--use-ring-exchange-p2p": PIPELINE,
    "--valid-data-path": HELD_OUT,
    "--vocab-extra-ids": VOCABULARY,
    "--vocab-file": VOCABULARY,
    "--vocab-size": VOCABULARY,
    "--warmup": WARMUP,
    "--weight-decay-incr-style": STEADY,
}


def told(name: str) -> str:
    """What to do instead of an argument of Megatron-DeepSpeed; "" where it is not known."""
    if name in LEAVE_OUT:
        return "leave it out, it changes nothing here"
    return INSTEAD.get(name, "")


def without_local_rank(argv: Sequence[str], local_rank: str) -> list[str]:
    """argv without the word that deepspeed's launcher, and torch's of old, put behind the program;
    raises UserError where it is not what LOCAL_RANK, which both set, says.
    """
    words = []
    for word in argv:
        name, _, value = word.partition("=")
        if name not in ("--local_rank", "--local-rank") or not value:
            words.append(word)
        elif value != local_rank:
            raise UserError(f"{word}, but LOCAL_RANK={local_rank}: leave {name} out")
    return words
