"""Files → records. Read in this order:

inputs        names, folders, @LIST and standard input → streams of bytes of a known format
chunks        a stream of any length → pieces of bounded memory, cut between records
records       a piece → its records
names         what may be shown of a record's name
gene_calling  a record → its genes, by pyrodigal
"""
