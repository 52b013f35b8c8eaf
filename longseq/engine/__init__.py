"""DeepSpeed around the network: optimizer, learning rate, ZeRO; parallelism put in from outside.

Read in this order:

distributed    this rank's device, and torch.distributed
engine         from a checked configuration to an engine: model, optimizer, DeepSpeed
network/       what changes the network from outside: shares, recomputation, compiling, values
memory_budget  what a rank may take, and what is therefore recomputed
optimizer      the optimizer, its groups and its learning rate
stage0         norm, clipping and master weights where DeepSpeed has none
one_pass_adam  AdamW that reads and writes each number once
loss_scale     fp16's: multiplied in, and changed when it may
update_guard   no update from numbers that are none, at any ZeRO stage
ds_config, ds_overrides    DeepSpeed's settings, ours and the user's
nvme           what offload to files needs
"""
