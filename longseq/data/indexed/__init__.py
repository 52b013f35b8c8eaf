"""Tokens on disk: PREFIX.bin and PREFIX.idx in Megatron's format, PREFIX.json beside them.

format        the pair, read in pieces, its halves checked against each other
growing       files that grow at their end and can be taken back to an earlier size
ends          which documents end with the end token
writer        the pair, written in pieces, with weights beside it
record_table  the records' names, files and documents;  document_table: what features documents are
manifest      what the tokens are, where they come from, and the digests of every file
"""
