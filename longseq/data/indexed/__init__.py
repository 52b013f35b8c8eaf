"""Tokens on disk: PREFIX.bin and PREFIX.idx in Megatron's format, PREFIX.json beside them.

format        read and written in pieces, checked against each other
manifest      what the tokens are, where they come from, and the digests of every file
"""
