"""The network: what the paper says, in plain PyTorch, for one rank that holds everything.

To be read in this order:

    gpt.py         tokens → embeddings → layers → norm → head → loss
    layers.py      a layer: attention and MLP, each on the residual stream
    rotary.py, tables.py, positions.py, norm.py, dropout.py    what they are made of
    loss.py        cross entropy of a head without the logits of the whole sequence
    head_tiles.py  how many tokens' logits exist at once (standard library only)
    context.py     what layers need to know of one forward pass

It imports torch, longseq.config and longseq.attention, and knows neither processes nor what saves
memory. Those change it from outside (engine/network/), at these places, each with its plain value
beside it:

    GPT.run_layers        one_by_one      how the layers follow each other
    Layer.run             as_written      how one layer is computed
    Layer.before, .after  before_attention, after_attention    its two halves
    SelfAttention.kernel, .exchange       the attention kernel, and what ranks swap around it
    Head.exchange         HeadExchange    what ranks that share the vocabulary do around the logits
    Norm.sum_gradients    unchanged       for parameters that several ranks hold whole
    Positions.join        None            adds up what ranks find in their rows
    Dropout.region        0               another number where tokens or heads are others
    tokens, blocks, qkv, projection, up, down      any nn.Embedding or nn.Linear of that shape
"""
