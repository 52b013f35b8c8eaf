"""From files of sequences to training batches. Read the rooms in this order:

tokenizers/   letters → codes → token ids, and back
sources/      files, folders, lists, standard input → records, whatever their format
prepare/      records → tokens: `longseq prepare`, and a FASTA named by --data-path
indexed/      the .bin/.idx pair in Megatron's format, and the .json beside it
samples/      documents → parts of a split → an endless deterministic stream → batches

datasets      what --data-path names, opened and checked: `check_data`, `open_datasets`
held_out      what is kept from training, by name or by a seed, and the list of it
opening       what the trainer asks for: `open_data(config.data, seq_length, seed)`
commands      the verbs `longseq prepare` and `longseq data`;  input_flags: those of the former's
              inputs;  inspection does the latter's work

Nothing is imported here: the check before a launch must start in milliseconds.
"""
