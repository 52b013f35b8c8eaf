"""Records → tokens on disk. Read in this order:

recipe        how letters become tokens: what was asked for, and its tables;  settings: the rest
tasks         the files as one row of pieces to encode and of notes between them
encode        what a worker does with a piece: letters → tokens, every letter accounted for
units         a record → the stretches that become documents
encoded       what goes to a worker and what comes back
fasta         the usual piece, quickly;  text: pieces for tokenizers of text
workers       here, or in several processes where they are worth it (pool); results in order
known/        what is known of records and documents, kept beside the tokens
writing/      what is written, and how far it is
target        whether its files may be written
job           one preparation, whole or not there
"""
