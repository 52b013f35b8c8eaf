"""Names that come from files, as they may be shown."""


def printable(text: str) -> str:
    """No escape sequence of a file reaches a terminal, no TAB a table: that is a blank."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "?" for c in text.replace("\t", " "))


def header_name(line: bytes) -> str:
    """The name in a FASTA header line, with or without its >."""
    return printable(line.removeprefix(b">").decode("utf-8", "replace").strip())
