"""What files say of the sequences, and of stretches of them.

features    annotated stretches of a record: their parts, in the order in which they are read
beside      those of GFF3, GTF and BED files (those of GenBank: sources/flat_files.py)
lines       one line of them: its place, or what is wrong with it
attributes  the ninth columns of GFF3 and GTF, by their formats
coding      whether coding sequences are whole
metadata    a table that says what records are
"""
