"""Letters → token ids, and back. Read in this order:

alphabet      nucleotide letters as small codes; the other strand
base          what a tokenizer is
nucleotides   one token a base
words         k-mers and codons, by table
tagged        any of them with tokens for tags
folding       how letters are read, for the library `tokenizers`
text          bytes, and Hugging Face's and GPT-2's files
registry      --tokenizer → one of these; a new one is a module and a row there
"""
