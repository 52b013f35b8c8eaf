"""Sequences that a trained network makes up. In this order:

generate  the verb: prompts → sequences, in FASTA
cache     keys and values of the tokens so far
sampling  logits → the next token
"""
