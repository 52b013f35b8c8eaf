"""How letters of sequences are read, in the form of the library `tokenizers`.

inner.normalizer = folding()        # "ac-gu\n" → "ACGT", as letters.code_table reads it
"""

from typing import Any

from longseq.data.tokenizers.letters import LETTERS, code_table


def folding() -> Any:
    """Lower case as upper case, U as T, X as N; no blanks and no gaps."""
    from tokenizers import Regex, normalizers

    steps: list[Any] = [normalizers.Replace(Regex(r"[\s.\-]+"), "")]
    table = code_table()
    for byte in range(256):
        letter = chr(byte)
        if table[byte] < len(LETTERS) and letter != (meant := LETTERS[table[byte]]):
            steps.append(normalizers.Replace(letter, meant))
    return normalizers.Sequence(steps)
