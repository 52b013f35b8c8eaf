"""One module for each class of transformers that our networks fit, each with one FAMILY.

choosing        the family that fits a network, or a config.json
family          what a family is, and the conditions that they are made of
values          what a config.json may say where a family reads it
moves           how tensors pass between two forms, both ways
separate        the names and moves that classes with separate q, k and v share
gpt_neox        rotary positions, LayerNorm, biases, GELU
llama           rotary positions, RMSNorm, SwiGLU, grouped heads
starcoder2      rotary positions, LayerNorm, GELU; grouped heads, or no biases
stablelm        rotary positions, also in part, LayerNorm, SwiGLU, grouped heads
gpt2            learned positions, LayerNorm, biases, GELU
"""
