"""Records → tokens on disk. Read in this order:

encode        what a worker does with a piece: letters → tokens, every letter accounted for
workers       several processes, results in the order of the pieces
job           one preparation from its first file to its manifest
fasta_cache   a FASTA named by --data-path, prepared once and found again by its content
"""
