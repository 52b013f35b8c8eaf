"""Sequences that a trained network makes up. In this order:

generate  the verb: prompts → sequences, in FASTA
growing   prompts → sequences, a token of each at a time
cache     keys and values of the tokens so far
sampling  logits → the next token
fasta     what is never drawn, and what is written
"""
