"""`longseq evaluate`: what a network has learned, beside what knows nothing of it. In this order:

evaluate   the verb: figures on the screen, in JSON, in a picture
held_out   what is evaluated, and what the baselines may learn from
losses     the network's losses: in all, by position, by document
baselines  compressors on the same letters (Markov models: data/samples/entropy.py)
codons     by codon position, and genes against their synonymous codons shuffled
picture    three panels
"""
