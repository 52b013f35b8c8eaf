"""Before the queue: what a run needs, whether it fits, how fast it is, and what would fit

gpus     GPUs by name, nodes by the machine's profile
speed    seconds of a step: matrix products, attention, messages
systems  other training systems: what they keep and do
plan     one run: the verdict, and the numbers behind it
show     the plan as a table, as a picture
ways     layouts, ZeRO, offload and recomputation that a run may take
search   each way tried against the estimate
advice   what was found: the line to type, and why others lost
command  `longseq plan`
simulate/   one rank of any world, run without memory

The bytes are counted in memory/need.py, which also chooses what is recomputed when a run starts.
Standard library only, but for pictures and simulate/.
"""
