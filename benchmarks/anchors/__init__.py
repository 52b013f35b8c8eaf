"""What ours is measured against; the programs here share no code with it.

plain        the network of the default run in plain PyTorch
upstream     upstream Megatron-DeepSpeed, from a checkout
trainers     both trainers in each layout: losses, time and memory, same flags and data
published    what others have published, beside what is planned for the same runs
numpy_table  tokens of a FASTA file by a quick parser and numpy's tables
tokenizers_alone  the same by that parser and the library tokenizers
"""
