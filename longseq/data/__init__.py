"""From FASTA to training batches.

alphabet, tokenizers    letters → codes → tokens
indexed, manifest       the .bin/.idx pair in Megatron's format and the .json beside it
cache                   a FASTA named by --data-path, prepared once and kept
split, stream, samples  documents → an endless deterministic stream → the sample with any index
batches, opening        what the trainer asks for: `open_data(options, seq_length, seed)`

Nothing is imported here: the check before a launch must start in milliseconds.
"""
