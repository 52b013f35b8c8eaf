"""What a split's own statistics make of it: marks that a training loss can be held against.

Plug-in estimates: with more contexts than there are tokens to fill them they come out far too low.
"""

import numpy as np
import numpy.typing as npt

from longseq.data.samples.stream import Stream
from longseq.errors import UserError

BLOCK = 1 << 22
LARGEST_TABLE = 1 << 27  # cells
ENOUGH = 1 << 28  # tokens; more do not move the estimate

Frequencies = npt.NDArray[np.float64]


def word_frequencies(stream: Stream, vocab_size: int, length: int) -> Frequencies:
    """How frequent each word of `length` tokens is in an epoch, [vocab_size ** length], sum 1."""
    if vocab_size**length > LARGEST_TABLE:
        raise UserError(
            f"a table of words of {length} tokens of {vocab_size} does not fit in memory"
        )
    counts = np.zeros(vocab_size**length, dtype=np.int64)
    stop = min(stream.epoch_tokens, ENOUGH)
    for start in range(0, stop, BLOCK):
        tokens = stream.read(start, min(start + BLOCK, stop) + length - 1)
        if int(tokens.max()) >= vocab_size:
            raise UserError(
                f"{stream.tokens.bin_path} holds a token outside its vocabulary of {vocab_size}"
            )
        word = np.zeros(len(tokens) - length + 1, dtype=np.int64)
        for place in range(length):
            word = word * vocab_size + tokens[place : place + len(word)]
        counts += np.bincount(word, minlength=len(counts))
    return np.asarray(counts / counts.sum(), dtype=np.float64)


def entropy(frequencies: Frequencies) -> float:
    """Nats of a distribution."""
    filled = frequencies[frequencies > 0]
    return float(-(filled * np.log(filled)).sum())


def markov_entropy(frequencies: Frequencies, vocab_size: int) -> float:
    """Nats of a word's last token given those before it."""
    contexts = frequencies.reshape(-1, vocab_size).sum(axis=1)
    return entropy(frequencies) - entropy(contexts)
