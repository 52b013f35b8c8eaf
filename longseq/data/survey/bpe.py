"""`--train-tokenizer bpe:N`: byte-pair encoding of DNA, by the library `tokenizers`.

Letters are merged into words by how often they stand side by side in a sample of all records. Only
A, C, G and T are: N and the ten other letters stay tokens of their own, so that no letter is lost
and no word is spent on a run of N.

A vocabulary of sequences reads lower case, U, X, blanks and gaps as `prepare` does, wherever its
file is loaded (transformers, after an export): the library would drop these letters in silence.
"""

from longseq.config.flags import whole
from longseq.data.survey.sample import Sample
from longseq.data.tokenizers.folding import folding
from longseq.data.tokenizers.letters import LETTERS
from longseq.errors import UserError

END = "<eod>"
LEAST = len(LETTERS) + 2  # the letters, the end of a document and one word
MOST = 1 << 20


def bpe_size(text: str) -> int:
    """The N of bpe:N."""
    kind, _, size = text.partition(":")
    if kind != "bpe" or not LEAST <= (words := whole(size)) <= MOST:
        raise UserError(
            f"--train-tokenizer {text}: give bpe:N, N tokens from {LEAST} to {MOST:,}, as bpe:4096"
        )
    return words


def train_bpe(sample: Sample, size: int) -> str:
    """A tokenizer.json of exactly so many tokens, the end of a document among them."""
    from tokenizers import Tokenizer, decoders, models, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.decoder = decoders.Fuse()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=[END],
        initial_alphabet=list(LETTERS),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sample.batches(), trainer)
    if not sample.text:
        tokenizer.normalizer = folding()
    found = tokenizer.get_vocab_size()
    if found < size:
        raise UserError(
            f"--train-tokenizer bpe:{size}: {sample.seen:,} letters A, C, G, T give no more than"
            f" {found:,} tokens: use bpe:{found} or less"
        )
    return str(tokenizer.to_str(pretty=True))
