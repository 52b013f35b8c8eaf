"""What is learnt from the records before they become tokens: one more pass over the inputs.

reading     every record of the inputs, in parts
sample      a random sample of their letters, of bounded size
bpe         a vocabulary of DNA words trained on it
sketches    a digest and a sketch of each record
wish        which duplicates and groups are asked for
likeness    duplicates and groups of like records, by these
first_pass  these, kept beside the preparation for a call that goes on
"""
