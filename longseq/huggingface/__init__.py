"""Checkpoints to Hugging Face's form and back, and tokenizers with them. In this order:

families/       which of transformers' classes expresses a network, and where each weight lies there
to_folder       checkpoint → safetensors, config.json, tokenizer, model card
weights         the tensors in such a folder by name, whichever file they are in
from_folder     the way back, to go on training
tokenizer_file  our tokenizers as a tokenizer.json
card            README.md: what the model was trained on, how far, by what command
command         `./longseq.sh export`, `./longseq.sh import`

Nothing here needs transformers; one tensor is in memory at a time.
"""
