"""One rank of the real trainer, run without memory: what it holds, sends and computes

command    `longseq simulate` and its arguments
rank       a rank's Trainer on a fake world, and its step
world      what a rank meets there: process groups without ranks, tensors without data
layers     layers that are like others stand in, and of many tiles three are run
shapes     what an operation gives, where that is plain to see
trace      counts storages and messages, operation by operation; arithmetic its FLOPs
calls      a call's tensors, and what it does beside its result
kinds      what a storage is, by who made it; the line at work
show       the table, JSON, and a picture of memory over the step

The network, parallelize, recomputation, tiles, offload and DeepSpeed's engine are those of
training; tensors are on torch's meta device, which computes shapes alone.
"""
