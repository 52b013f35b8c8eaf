"""DeepSpeed around the network: optimizer, learning rate, ZeRO; parallelism put in from outside.

Read in this order:

distributed    this rank's device, and torch.distributed
engine         from a checked configuration to an engine: model, optimizer, DeepSpeed
parallelize    this rank's share in place of whole layers
recompute      layers that keep less, as memory_budget finds it necessary
initialize     first values, the same on every layout
optimizer      the optimizer, its groups and its learning rate
stage0         norm, clipping and master weights where DeepSpeed has none
update_guard   no update from numbers that are none, at any ZeRO stage
ds_config, ds_overrides    DeepSpeed's settings, ours and the user's
nvme           what offload to files needs
"""
