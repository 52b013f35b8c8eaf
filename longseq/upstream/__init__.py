"""The second trainer: upstream Megatron-DeepSpeed, in a checkout of it, behind the same command.

checkout     where it is, and whether it is the one that we know
arguments    our checked configuration → its argument list; what it cannot do is refused by name
faults       what it computes wrongly, a line each, and which of that a run meets
request      `longseq check` for a run of it: everything that can go wrong before a rank starts
stand_ins    what it imports and today's libraries lack, supplied from outside
fixes        the corrected behaviour in the place of what it does wrong (UPSTREAM_FIXES)
names        its parameters' names and pieces ↔ ours; our first values for its network
resume       a checkpoint of ours → its training
converting/  a checkpoint of its, read
convert      a checkpoint of its → ours: `longseq convert`
data         our samples and tokenizer as its data sets
record       its losses, norms and times → our screen and metrics.jsonl; when to stop
start        one rank of it: what pretrain_gpt.py runs for --trainer megatron-deepspeed

No file of the checkout is changed, and nothing of its code is here.
"""
