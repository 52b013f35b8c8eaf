"""What ours is measured against; shares no code with it.

plain        the network of the default run in plain PyTorch
upstream     upstream Megatron-DeepSpeed, from a checkout
numpy_table  tokens of a FASTA file by a quick parser and numpy's tables
"""
