"""What changes the network from outside, in the order in which it does.

parallelize    this rank's share in place of whole layers
recompute      layers that keep less, as memory_budget finds it necessary
compile        what layers do token by token, by torch.compile
whole_rows     a choice of that compiler's that is wrong for hidden states
gathered       products that let ZeRO stage 3 take their weights away
initialize     memory and first values, the same on every layout
"""
