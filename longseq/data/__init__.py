"""From files of sequences to training batches. Read the rooms in this order:

tokenizers/   letters → codes → token ids, and back
sources/      files, folders, lists, standard input → records, whatever their format
survey/       what is learnt from records before they become tokens: a vocabulary
prepare/      records → tokens: `longseq prepare`, and a FASTA named by --data-path
indexed/      the .bin/.idx pair in Megatron's format, and the .json beside it
report/       a biologist's page of a data set
samples/      documents → parts of a split → an endless deterministic stream → batches

fasta_cache   a FASTA named by --data-path, prepared once and found again by its content
request       what --data-path and its flags ask for, looked at before a job is queued
datasets      what --data-path names, opened and checked: `check_data`, `open_datasets`
held_out      what is kept from training, by name or by a seed, and the list of it
numbering     what the numbers of samples mean, for a checkpoint: `numbering(cuts, options, seed)`
opening       what the trainer asks for: `open_data(config.data, seq_length, seed)`
commands      the verb `longseq prepare`;  input_flags: those of its inputs
looking       the verb `longseq data`, whose work inspection does
progress_bar  for both
written       what a command writes takes the place of nothing that it reads

Nothing is imported here: the check before a launch must start in milliseconds.
"""
