"""What a checkpoint is on disk; nothing here knows an engine. Read in this order:

manifest      what it holds, with the hash of every block; no torch
folder        a folder of checkpoints: which there are, which is the newest whole one
tensor_files  files of tensors in the safetensors format, written in one pass
boxes         the numbers that a rank holds, as rectangles of a whole tensor's matrix
tensors       reading a tensor, or some of its rows, on any layout
"""
