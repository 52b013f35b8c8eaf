"""Files → records. Read in this order:

inputs        names, folders, @LIST, URLs and standard input → streams of bytes of a known format
formats       which format and compression a file has
remote        what is behind a URL, and what may be shown of it
pieces        what a stream comes in: pieces of bounded memory, cut between records
chunks        the pieces of FASTA, FASTQ, GenBank, EMBL and text;  tables, twobit: of the others
records       a piece → its records;  flat_files: of GenBank and EMBL
annotation/   what files say of the sequences, and of stretches of them
identity      whether an input is the one that was read before
names         what may be shown of a record's name
gene_calling  a record → its genes, by pyrodigal
"""
