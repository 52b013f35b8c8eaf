"""Files → records. Read in this order:

inputs        names, folders, @LIST and standard input → streams of bytes of a known format
chunks        a stream of any length → pieces of bounded memory, cut between records
records       a piece → its records, by a library that knows the format
gene_calling  a record → its genes, by pyrodigal
"""
