"""A checkpoint of Megatron-DeepSpeed, read: damaged, harmful or of another network, it is refused.

place        which of a folder's checkpoints is meant
pickles      its files, without running what is in them
meaning      its arguments → our network; what means something else than ours is refused by name
orders       the names of the orders of queries, keys and values
rows         queries, keys and values in the order in which its versions lay them, and in ours
optimizer    fp32 weights and Adam's moments, in each of the forms in which DeepSpeed keeps them
theirs       the checkpoint: all of its tensors, whole, by our names
going_on     the command that trains on
writing      the checkpoint of ours that it becomes
"""
