"""What of the engine is kept, and where each rank holds it. Read in this order:

engine_state   weights and optimizer state as pieces of named tensors
zero_state     where each ZeRO stage, and NVMe, keeps them
share          what this rank writes, copied aside so that training may go on
load           from a checkpoint of any layout into this rank's engine
random_states  the random generators of a process, in types that JSON holds
"""
