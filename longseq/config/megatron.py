"""Arguments of Megatron-DeepSpeed that are none here → what to do instead (docs/upstream.md).

    told("--num-query-groups")      # "give --num-key-value-heads"; "" for a name that is not known
    mixture(["0.3", "A", "0.7", "B"])   # what to do instead of several words behind --data-path
    without_local_rank(argv, "0")   # argv without the --local_rank=0 that launchers put into it

LEAVE_OUT has those that could change nothing here: how its engine, its files or its fused kernels
go about what is done in any case. Nothing is silently ignored, so these are refused, too, but all
in one message. All that its parser knows has an answer.
"""

import shlex
from collections.abc import Sequence

from longseq.errors import UserError

LEAVE_OUT = frozenset(
    """
    --DDP-impl --attention-softmax-in-fp32 --contigious-checkpointing --data-impl --deepspeed
    --deepspeed-activation-checkpointing
    --deepspeed_mpi --disable-mem-efficient-ln --distributed-backend --ds_fused_adam
    --empty-unused-memory-level --exit-on-missing-checkpoint --exit-signal-handler
    --hysteresis --lazy-mpu-init --local-rank --local_rank --log-batch-size-to-tensorboard
    --log-memory-to-tensorboard --log-num-zeros-in-grad --log-optimizer-states-to-tensorboard
    --log-params-norm --log-timers-to-tensorboard --log-validation-ppl-to-tensorboard
    --log-world-size-to-tensorboard --memory-centric-tiled-linear --mmap-warmup
    --no-async-tensor-model-parallel-allreduce
    --no-barrier-with-level-1-timing --no-bias-dropout-fusion
    --no-contiguous-buffers-in-local-ddp --no-data-sharding --no-gradient-accumulation-fusion
    --no-initialization --no-log-learnig-rate-to-tensorboard --no-log-loss-scale-to-tensorboard
    --no-masked-softmax-fusion --no-persist-layer-norm --no-pipeline-parallel
    --no-query-key-layer-scaling --no-scatter-gather-tensors-in-pipeline --num-workers
    --overlap-grad-reduce --overlap-p2p-communication --overlap-param-gather
    --override-opt_param-scheduler --profile-backward --scattered-embeddings --split-transformers
    --synchronize-each-layer --tensorboard-log-interval
    --tensorboard-queue-size --timing-log-level --timing-log-option --tile-factor --transformer-impl
    --use-cpu-initialization --use-mcore-models
    --use-pin-memory --wandb-exp-name --wandb-save-dir --zero-contigious-gradients
    --zero-reduce-scatter
    """.split()
)

# What is to be done → those it is true of, where they are many or only this is to be said
ANSWERS = {
    "leave it out, it is of other models and tasks than GPT's pre-training": """
        --bert-embedder-type --bert-load --bert-no-binary-head --biencoder-projection-dim
        --biencoder-shared-query-context-model --block-data-path --classes-fraction
        --data-per-class-fraction --decoder-num-layers --decoder-seq-length
        --dino-bottleneck-size --dino-freeze-last-layer --dino-head-hidden-size
        --dino-local-crops-number --dino-local-img-size --dino-norm-last-layer --dino-teacher-temp
        --dino-warmup-teacher-temp --dino-warmup-teacher-temp-epochs --embedding-path
        --evidence-data-path --head-lr-mult --ict-head-size --ict-load --img-h --img-w
        --indexer-batch-size --indexer-log-interval --iter-per-epoch --mask-factor --mask-prob
        --mask-type --num-channels --num-classes --onnx-safe --output-bert-embeddings --patch-dim
        --query-in-block-prob --retriever-report-topk-accuracies --retriever-score-scaling
        --retriever-seq-length --retro-add-retriever --retro-cyclic-train-iters
        --retro-encoder-attention-dropout --retro-encoder-hidden-dropout --retro-encoder-layers
        --retro-num-neighbors --retro-num-retrieved-chunks --retro-return-doc-ids --retro-workdir
        --sample-rate --short-seq-prob --swin-backbone-type --titles-data-path --use-one-sent-docs
        --vision-backbone-type --vision-pretraining --vision-pretraining-type""",
    "leave it out, there are no experts": """
        --create-moe-param-group --disable-moe-token-dropping --disable-moe-top2-2nd-expert-sampling
        --enable-expert-tensor-parallelism --expert-interval --mlp-type --moe-eval-capacity-factor
        --moe-expert-parallel-size --moe-loss-coeff --moe-min-capacity --moe-train-capacity-factor
        --num-experts --num-experts-switch --topk --use-tutel""",
    "leave it out, no network learns from another here": """
        --hidden-size-teacher --kd --kd-alpha-ce --kd-beta-ce --kd-temp --load-teacher --mos
        --num-attention-heads-teacher --num-experts-teacher --num-layers-teacher""",
    "leave it out, there is no pipeline but that of TRAINER=megatron-deepspeed": """
        --enable-zbh1-exact-semantics --enable-zbh1-pipeline --num-layers-per-virtual-pipeline-stage
        --pipeline-model-parallel-split-rank --standalone-embedding-stage
        --use-ring-exchange-p2p""",
    "leave it out, there is no FP8: --bf16 (DTYPE=bf16) is the shortest": """
        --fp8-amax-compute-algo --fp8-amax-history-len --fp8-e4m3 --fp8-hybrid --fp8-interval
        --fp8-margin --no-fp8-wgrad""",
    "leave it out, ./longseq.sh generate and score use what was trained": """
        --ds-inference --inference --inference-batch-times-seqlen-threshold --max-tokens-to-oom""",
    "leave it out, samples are in an order drawn by --seed and begin again at the data's end": """
        --dataloader-type --repeated-dataloader --train-desc-path --train-doc-idx-path
        --train-idx-path --train-sample-idx-path --train-shuffle-idx-path""",
    'give a file with a section "zero_optimization" to --deepspeed-overrides (DS_CONFIG)': """
        --zero-allgather-bucket-size --zero-reduce-bucket-size""",
    "leave it out, a chain of jobs goes on by itself (submit.sh --chain)": """
        --adlr-autoresume --adlr-autoresume-interval""",
    "leave it out, --profile (PROFILE=1) traces iterations 3 to 5 of all ranks": """
        --profile-ranks --profile_steps""",
}

ITERATIONS = "give --train-iters (TRAIN_ITERS), samples over the global batch"
TOKENS = "give --train-iters (TRAIN_ITERS), tokens over the global batch times --seq-length"
EPOCHS = (
    "give --train-iters (TRAIN_ITERS), epochs times the tokens of the data over the global batch"
    " times --seq-length"
)
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
FLASH = "give --use-flash-attn-best (USE_FLASH_ATTN=1)"
ROPE = "give --use-rotary-position-embeddings (USE_ROTARY=1)"
OTHER_NETWORK = (
    "our network has no such thing, and without it is another: leave it out to train that"
)
CURRICULUM = "give --curriculum-seq-length"
INSTEAD = {name: answer for answer, names in ANSWERS.items() for name in names.split()} | {
    "--accumulate-allreduce-grads-in-fp32": "leave it out, with --bf16 gradients are added up in"
    " fp32",
    "--aml-data-download-path": "give --data-path (DATA_PATH)",
    "--apply-layernorm-1p": "leave it out, a norm's weight begins at 1 itself, and is not decayed",
    "--apply-residual-connection-post-layernorm": OTHER_NETWORK,
    "--batch-size": "give --micro-batch-size (MICRO_BATCH)",
    "--checkpoint-num-layers": "give --recompute-num-layers",
    "--cpu_torch_adam": "leave it out, --cpu-optimizer has DeepSpeed's",
    "--data-cache-path": "set LONGSEQ_CACHE",
    "--data-efficiency-curriculum-learning": CURRICULUM,
    "--data-parallel-random-init": "leave it out, all ranks begin with the same weights",
    "--distribute-checkpointed-activations": SPREAD,
    "--distribute-saved-activations": SPREAD,
    "--distributed-timeout-minutes": "give --hang-timeout, in seconds",
    "--embedding-weights-in-fp32": "leave it out, the table has the precision of all weights",
    "--encoder-num-layers": "give --num-layers",
    "--encoder-seq-length": "give --seq-length (SEQ_LEN)",
    "--end-weight-decay": STEADY,
    "--exit-duration-in-mins": "set WALLTIME",
    "--exit-interval": "give --train-iters, and the schedule's length as --lr-decay-iters",
    "--finetune": WEIGHTS,
    "--force-ds-sequence-parallel": "leave it out, --ds-sequence-parallel-size says it",
    "--fp16-lm-cross-entropy": "leave it out, losses are computed in fp32",
    "--fp32-residual-connection": "leave it out, with --bf16 hidden states are in bf16, without in"
    " fp32",
    "--group-query-attention": "leave it out and give --num-key-value-heads",
    "--init-method-xavier-uniform": "give --init-method-std, weights begin normal",
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
    "--no-bias-gelu-fusion": "leave it out, GELU is the tanh form, and not the exact one that this"
    " takes there",
    "--no-load-lr-state": "give --lr and --lr-decay-iters, which win over those of LOAD",
    "--no-load-optim": WEIGHTS,
    "--no-load-rng": "leave it out, data and dropout follow from --seed and the place in the data",
    "--no-position-embedding": ROPE,
    "--no-save-optim": SAVED,
    "--no-save-rng": "leave it out, it is a few bytes of a checkpoint",
    "--num-query-groups": "give --num-key-value-heads",
    "--openai-gelu": "leave it out, GELU is this tanh form in any case",
    "--partition-activations": SPREAD,
    "--position-embedding-type": ROPE,
    "--rampup-batch-size": "leave it out, the batch stays the same; --curriculum-seq-length lets"
    " samples grow",
    "--random-ltd": "leave it out, every layer gets all tokens; --curriculum-seq-length begins with"
    " short samples",
    "--recompute-activations": "give --recompute-granularity selective",
    "--reset-iteration": "leave it out, --train-iters counts those of LOAD, too",
    "--return-data-index": CURRICULUM,
    "--rotary-base": "give --rope-theta",
    "--rotary-position-embeddings-theta": "give --rope-theta",
    "--sgd-momentum": "leave it out, --optimizer sgd has none",
    "--skip-train": "./longseq.sh evaluate RUN does that",
    "--squared-relu": OTHER_NETWORK,
    "--start-weight-decay": STEADY,
    "--test-data-path": HELD_OUT,
    "--tokenizer-model": "give --tokenizer-type huggingface:FILE",
    "--train-data-exact-num-epochs": EPOCHS,
    "--train-data-path": HELD_OUT,
    "--train-samples": ITERATIONS,
    "--train-tokens": TOKENS,
    "--trust-remote-code": "leave it out, no code of a tokenizer's folder is run",
    "--universal-checkpoint": "leave it out, --load takes a checkpoint on any layout",
    "--use-checkpoint-args": "leave it out, LOAD goes on with the settings of the run before",
    "--use-checkpoint-opt_param-scheduler": "leave it out, and --lr and the schedule's other"
    " flags with it: what is given wins here over that of LOAD, whose settings"
    " go on where nothing is given",
    "--use-dataset-only": "leave it out, ./longseq.sh data decode shows what data hold",
    "--use-distributed-optimizer": "give --zero-stage 1 (ZERO_STAGE)",
    "--use-flash-attn": FLASH,
    "--use-flash-attn-builder": FLASH,
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


def mixture(words: Sequence[str]) -> str:
    """What makes a blend of upstream's `--data-path WEIGHT PATH WEIGHT PATH`, or of paths alone,
    which have the same weight then; "" for less than two words.
    """
    if len(words) < 2:
        return ""
    lines = [f"1 {word}" for word in words]
    if weighted(words):
        lines = [f"{weight} {path}" for weight, path in zip(words[::2], words[1::2], strict=True)]
    return (
        f"several data sets are a file with a line each: printf '%s\\n' {shlex.join(lines)} >"
        " mix.blend, and --data-path mix.blend (DATA_PATH); paths in it are relative to it"
    )


def weighted(words: Sequence[str]) -> bool:
    """Whether each second of `words`, from the first on, is a number."""
    try:
        return [float(word) for word in words[::2]] != [] and len(words) % 2 == 0
    except ValueError:
        return False


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
