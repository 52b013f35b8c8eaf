"""Documents → batches, all of it computed from the seed and a sample's number. In this order:

held_names    what --valid-records and --test-records ask for
split         which documents are for training, validation and test
cuts          which tokens lie on which side of a cut through the genome, and where cuts are made
stream        the documents of a part as an endless stream, in a new order each epoch
shuffle       a random order in closed form
packing       the stream cut into samples, or each document by itself
samples       sample i, its labels, its mask
batch         what a rank gets
blend         several datasets, each as often as its weight says
curriculum    samples that grow over a run
entropy       marks to hold a loss against: frequencies, Markov models
"""
