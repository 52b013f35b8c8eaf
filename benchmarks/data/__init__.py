"""Preparing data, reading batches, saving and loading.

prepare     `longseq prepare`, beside numpy_table and Megatron's own tool
formats     one genome in each format that is read: the same tokens
leaks       how much of validation is in training, by content
batches     how soon a batch is there
checkpoint  what a save stalls the step by, and a load against a read
broadcast   the environment onto the hosts' own disks: a tree against a shared folder
"""
