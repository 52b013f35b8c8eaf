"""What a trained network is for: to score, generate, look inside (docs/use.md).

torch takes seconds to load and is imported where computing begins: mistakes are told before that.
In this order:

flags      how these verbs compute, and what of it the user may say
network    → this rank's share of the network, filled from the checkpoint
ranks      a verb on several ranks: how it starts, how it ends, what a mistake does
sequences  files or prepared data → records of tokens
windows    a record → what the network sees of it at once
forward    windows → the loss of each token, over all ranks
outputs    what is to be written, looked at before any work
tables     what is written: whole or not there
progress   how far it is, and how long it will take
score      the verb: log-likelihoods of records;  variants: of alleles between the same flanks
vcf        a VCF or BCF → its alternatives; what is wrong in it by its line
generation/   the verb `generate`: sequences made up
embedding/    the verb `embed`: states behind a layer
evaluation/   the verb `evaluate`: what was learned, beside what knows nothing of it
"""
