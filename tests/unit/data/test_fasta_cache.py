"""A FASTA as --data-path: prepared once, by whoever comes first, found again by its content."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from data_helpers import LAMBDA, texts

from longseq.data import fasta_cache
from longseq.data.fasta_cache import default_cache_folder, ensure_prepared, prefix_of
from longseq.data.indexed.format import IndexedTokens
from longseq.errors import UserError
from longseq.host.atomic_files import digest

CALL = (
    "import sys; from longseq.data.fasta_cache import *;"
    " print(ensure_prepared(sys.argv[1], Path(sys.argv[2])))"
)


def test_prepared_once(tmp_path: Path) -> None:
    prefix = ensure_prepared(str(LAMBDA), tmp_path)
    before = os.stat(prefix + ".bin").st_mtime_ns
    copy = tmp_path / "a copy with 'quotes'" / "NC_001416.1.fa"
    copy.parent.mkdir()
    shutil.copy(LAMBDA, copy)
    assert ensure_prepared(str(copy), tmp_path) == prefix
    assert os.stat(prefix + ".bin").st_mtime_ns == before
    assert IndexedTokens(prefix).num_tokens == 48503


def test_other_content_or_tokenizer_is_another_entry(tmp_path: Path) -> None:
    source = tmp_path / "x.fa"
    prefixes = set()
    for content, tokenizer in (
        (">a\nACG\n", "nucleotide"),
        (">a\nACT\n", "nucleotide"),
        (">a\nACT\n", "codon"),
    ):
        source.write_text(content)
        prefixes.add(ensure_prepared(str(source), tmp_path / "cache", tokenizer))
    assert len(prefixes) == 3


def test_a_tokenizer_is_its_content_wherever_it_lies(tmp_path: Path) -> None:
    """Its file may be replaced, and another be found under the same path elsewhere; what is
    written in a path makes no folders in the cache.
    """
    source, cache = tmp_path / "x.fa", tmp_path / "cache"
    source.write_text(">a\nACGT\n")
    (tmp_path / "sub").mkdir()
    file = tmp_path / "tok.json"
    for name, order in (("tok.json", "ACGT"), ("sub/../tok.json", "TGCA"), ("tok.json", "GATC")):
        vocabulary = {letter: place for place, letter in enumerate([*order, "<eos>"])}
        model = {"type": "BPE", "vocab": vocabulary, "merges": []}
        file.write_text(json.dumps({"version": "1.0", "model": model, "added_tokens": []}))
        prefix = ensure_prepared(str(source), cache, f"huggingface:{tmp_path}/{name}")
        assert Path(prefix).parent.parent == cache
        tokens = IndexedTokens(prefix).read(0, 4).tolist()
        assert tokens == [order.index(letter) for letter in "ACGT"]
    shutil.move(file, tmp_path / "moved.json")
    assert prefix == ensure_prepared(str(source), cache, f"huggingface:{tmp_path}/moved.json")
    moved = shutil.move(tmp_path / "moved.json", tmp_path / "tokenizer.json")
    assert prefix == ensure_prepared(str(source), cache, f"huggingface:{moved}")
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "G"}')  # another end
    assert prefix != ensure_prepared(str(source), cache, f"huggingface:{moved}")


def test_a_name_of_letters_of_several_bytes(tmp_path: Path) -> None:
    """A file's name may have 255 bytes, and another job's folder has a longer one."""
    source = tmp_path / ("\u57fa" * 80 + ".fa")
    source.write_text(">a\nACGT\n")
    assert IndexedTokens(ensure_prepared(str(source), tmp_path / "cache")).num_tokens == 5


def test_what_changes_while_it_is_read_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be the tokens of another content under the digest of the first."""
    source = tmp_path / "live.fa"
    source.write_text(">one\nAAAA\n")

    def replaced(path: Path) -> str:
        found = digest(path)
        source.write_text(">two\nCCCC\n")
        return found

    monkeypatch.setattr(fasta_cache, "digest", replaced)
    with pytest.raises(UserError, match=r"live\.fa \(DATA_PATH\) changed while it was read"):
        ensure_prepared(str(source), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    monkeypatch.undo()
    assert texts(ensure_prepared(str(source), tmp_path / "cache")) == ["CCCC"]


def test_many_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CALL, str(LAMBDA), str(tmp_path)]
    jobs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    found = {job.communicate()[0].strip() for job in jobs}
    assert all(job.returncode == 0 for job in jobs)
    assert len(found) == 1
    assert [path.name for path in tmp_path.iterdir()] == [Path(found.pop()).parent.name]


def test_damaged_entry_is_made_again(tmp_path: Path) -> None:
    prefix = ensure_prepared(str(LAMBDA), tmp_path)
    os.truncate(prefix + ".bin", 100)
    assert ensure_prepared(str(LAMBDA), tmp_path) == prefix
    assert IndexedTokens(prefix).num_tokens == 48503


def test_prepared_pair_is_itself(tmp_path: Path) -> None:
    prefix = ensure_prepared(str(LAMBDA), tmp_path)
    for name in (prefix, prefix + ".bin", prefix + ".idx"):
        assert ensure_prepared(name, tmp_path) == prefix
    assert prefix_of(str(LAMBDA)) is None


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    prefix = ensure_prepared(str(LAMBDA), tmp_path)
    entry = Path(prefix).parent
    shutil.rmtree(entry)
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    import socket

    host = socket.gethostname().replace("-", "_")
    left = tmp_path / f"{entry.name}.aside-{host}-{child.pid}-abcdef"
    alive = tmp_path / f"{entry.name}.aside-{host}-{os.getpid()}-abcdef"
    other = tmp_path / f"{entry.name}.aside-elsewhere-{child.pid}-abcdef"
    for folder in (left, alive, other):
        folder.mkdir()
    ensure_prepared(str(LAMBDA), tmp_path)
    assert not left.exists()
    assert alive.exists()
    assert other.exists()


@pytest.mark.parametrize("name", ["none.fa", "empty.fa", "folder", "text.fa"])
def test_bad_paths(tmp_path: Path, name: str) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "empty.fa").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.fa").write_text("hello\n")
    with pytest.raises(UserError, match=name):
        ensure_prepared(str(tmp_path / name), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named_with_its_variable(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(UserError) as raised:
        ensure_prepared(str(LAMBDA), tmp_path / "cache")
    assert str(raised.value) == (
        f"{tmp_path / 'cache'}: File exists: set LONGSEQ_CACHE to a folder with room that you can"
        " write to"
    )


def test_found_without_numpy(tmp_path: Path) -> None:
    """The check before a launch stays quick: a prepared file costs the standard library only."""
    ensure_prepared(str(LAMBDA), tmp_path)
    code = CALL + "; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(LAMBDA), str(tmp_path)], check=True)


def test_a_url_is_prepared_first_and_its_secrets_are_not_said() -> None:
    with pytest.raises(
        UserError, match=r"--data-path https://host/x\.fa \(DATA_PATH\) is a URL"
    ) as caught:
        ensure_prepared("https://user:hunter2@host/x.fa?key=hunter2")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("home", [None, ""])
def test_without_a_home_the_cache_is_in_tmp(
    home: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where root, who may write everywhere, calls it."""
    for name in ("LONGSEQ_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(os, "access", lambda *_: True)
    assert default_cache_folder() == Path(f"/tmp/longseq-{os.getuid()}")
