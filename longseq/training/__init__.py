"""A training, from its first to its last iteration: a rank's batches, steps, the mean loss.

Read in this order:

loop       from the first to the last iteration: set up, resume, step, validate, save, end
trainer    device, mesh, network, engine and step, without anything around them
announcer  what people are told: screen, tracker, summary, page; how it ended or failed
losses     of all iterations, for the mean that the end tells
rewind     --on-spike rewind: back to the last checkpoint, without the batch at fault
profile, part_flops   --profile: a trace, gaps; FLOPs of each part of the network
parts    what a step spends its time on
positions  the validation loss by place in the sequence
facts      what the report shows beside the metrics: planned memory, and the data
feed       this rank's micro batches
"""
