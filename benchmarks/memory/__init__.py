"""What a rank holds, and how long a sequence that allows.

ladder        the longest sequence in 8 GiB a rank, by what is done for memory
line          what a sequence costs, and the floor; a rank's peak
planned       planned and simulated peak beside the measured one
zero          bytes a parameter at each ZeRO stage
combinations  ZeRO stage x offload x precision x axis, or the refusal
"""
