"""`longseq evaluate`: what a network has learned, beside what knows nothing of it. In this order:

evaluate   the verb: figures on the screen, in JSON, in a picture
held_out   what is evaluated, and what the baselines may learn from
losses     the network's losses: in all, by position, by document
baselines  compressors on the same letters (Markov models: data/samples/entropy.py)
seen       how much of it was learned from
codons     codon positions, and genes with their synonymous codons shuffled
genes      losses by codon position, genes against themselves shuffled
told       what the terminal shows
picture    three panels
"""
