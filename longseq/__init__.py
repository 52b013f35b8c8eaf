"""longseq: pre-train GPT models on sequences of hundreds of thousands to millions of tokens.

Imports run downward (.importlinter):

__main__     the verbs of ./longseq.sh
planning/    what a run needs, whether that fits, and what would
inference/   what a trained network is for: to score, generate, look inside
huggingface/ a checkpoint to the form of transformers, and back
bench/       speed by length, the longest sequence: measured beside planned and published
upstream/    the second trainer: Megatron-DeepSpeed, in a checkout of it
training/    from the first to the last iteration; read it first
checkpoint/  whole or not there
doctor/      is every host fit?
run/         a run's folder, its records, what people see of it and how it ends
engine/      DeepSpeed around the network, and what changes the network from outside
parallel/    what ranks do together: one module an axis
memory/      time for memory: what a rank need not keep
data/        from files of sequences to training batches
reports/     tables, plots and the page about a run
model/       the network, for one rank that holds everything
config/      argv → one checked configuration
attention/   one module a kernel, and what they are made of
host/        what this machine has, and files that are whole or not there
errors       the one exception for the user's mistakes
"""

__version__ = "0.1.0"
