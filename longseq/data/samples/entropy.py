"""What a split's own statistics make of it: a mark that a training loss can be held against."""

import numpy as np
import numpy.typing as npt

from longseq.data.samples.stream import Stream
from longseq.errors import UserError

BLOCK = 1 << 22
ENOUGH = 1 << 28  # tokens; more do not move the estimate

Frequencies = npt.NDArray[np.float64]


def token_frequencies(stream: Stream, vocab_size: int) -> Frequencies:
    """How frequent each token is in an epoch, [vocab_size], sum 1."""
    counts = np.zeros(vocab_size, dtype=np.int64)
    stop = min(stream.epoch_tokens, ENOUGH)
    for start in range(0, stop, BLOCK):
        tokens = stream.read(start, min(start + BLOCK, stop))
        if int(tokens.max()) >= vocab_size:
            raise UserError(
                f"{stream.tokens.bin_path} holds a token outside its vocabulary of {vocab_size}"
            )
        counts += np.bincount(tokens, minlength=vocab_size)
    return np.asarray(counts / counts.sum(), dtype=np.float64)


def entropy(frequencies: Frequencies) -> float:
    """Nats of a distribution."""
    filled = frequencies[frequencies > 0]
    return float(-(filled * np.log(filled)).sum())
