"""Checkpoints: whole or not there, and without a layout (docs/checkpoints.md). In this order:

run_checkpoints  a run's own: when one fits, what goes into one, what comes out
saver            saves beside the training: the step waits for a copy, a thread does the rest
owner            a folder of checkpoints belongs to one run at a time
fit              whether a checkpoint fits a run
left_out         samples that are not trained on again, after --on-spike rewind
other_samples    whether the numbers of samples mean what they did before
request          what --load and --save ask for, looked at before any rank starts
format/          the files: manifest, tensors, folders of checkpoints
state/           weights and optimizer state of the engine, and this rank's share of them
weights          a checkpoint in whole tensors, of one or the mean of several, which others read too
trained          what was trained: the network and the tokenizer of a run or a checkpoint
command          `longseq checkpoint inspect|verify|convert|average`
"""
