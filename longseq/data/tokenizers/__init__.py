"""Letters → token ids, and back. Read in this order:

letters       which are nucleotides, as small codes; no numpy
alphabet      these codes as arrays; the other strand
base          what a tokenizer is
nucleotides   one token a base
words         k-mers and codons, by table
tagged        any of them with tokens for tags
folding       how letters are read, for the library `tokenizers`
completing    what a tokenizer.json leaves out: a decoder, a token for unknown words
text          bytes, and Hugging Face's and GPT-2's files
kinds         which there are, and how they are written; no numpy
registry      --tokenizer → one of these; a new one is a module and a row there
"""
