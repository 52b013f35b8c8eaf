"""Which checkpoint is taken: damage of every kind is noticed, named, and the one before is used."""

import errno
import fcntl
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from longseq.checkpoint import request
from longseq.checkpoint.format import manifest as manifests
from longseq.checkpoint.format import tensor_files
from longseq.checkpoint.format.folder import clean, commit, find_latest, forget, verify
from longseq.checkpoint.format.manifest import Damaged, describe, list_files, read_manifest
from longseq.checkpoint.owner import claim_folder, may_use
from longseq.checkpoint.request import check_request
from longseq.config.checks import parse_config
from longseq.errors import UserError
from longseq.host.atomic_files import remove, ticks
from longseq.parallel.agreement import Ranks
from tests.faults.small_engine import manifest_of

ALONE = Ranks()


def write_checkpoint(folder: Path, step: int) -> Path:
    path = folder / f"step-{step}"
    (path / "state").mkdir(parents=True)
    (path / "state" / "a.pt").write_bytes(bytes(range(256)) * step)
    (path / "state" / "b.pt").write_bytes(b"b")
    files = {name: describe(path / name) for name in list_files(path)}
    replace(manifest_of(step), files=files).write(path)
    (folder / "latest").write_text(path.name + "\n")
    return path


def flip(path: Path, at: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def lead_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("/no/such")


def write_two(folder: Path) -> Path:
    """step-9 and step-10."""
    for step in (9, 10):
        write_checkpoint(folder, step)
    return folder


@pytest.fixture
def two(tmp_path: Path) -> Path:
    return write_two(tmp_path)


def found(folder: Path) -> tuple[str, list[str]]:
    said: list[str] = []
    return find_latest(folder, said.append)[0].name, said


def test_newest_is_taken(two: Path) -> None:
    assert found(two) == ("step-10", [])
    assert find_latest(two / "step-9", print)[0] == two / "step-9"


def test_a_link_to_one_stands_for_it(two: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Beside it lies what goes with it; of one that a run has put elsewhere, beside the link."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "best").symlink_to(two / "step-9")
    assert find_latest(elsewhere / "best", print)[0] == two / "step-9"
    (two / "step-10").rename(elsewhere / "archived")
    (two / "step-10").symlink_to(elsewhere / "archived")
    assert find_latest(two / "step-10", print)[0] == two / "step-10"


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped bit": (lambda p: flip(p / "state" / "a.pt", 77), "state/a.pt is not what was written"),
    "truncated": (
        lambda p: (p / "state" / "a.pt").write_bytes(b"x"),
        "state/a.pt has 1 bytes, 2560 were written",
    ),
    "emptied": (lambda p: (p / "state" / "b.pt").write_bytes(b""), "state/b.pt has 0 bytes"),
    "missing file": (lambda p: (p / "state" / "b.pt").unlink(), "state/b.pt is missing"),
    "link to nowhere": (
        lambda p: lead_nowhere(p / "state" / "b.pt"),
        "state/b.pt cannot be read: No such file or directory",
    ),
    "no manifest": (lambda p: (p / "manifest.json").unlink(), "manifest.json is missing"),
    "cut manifest": (
        lambda p: (p / "manifest.json").write_text('{"format": 1'),
        "manifest.json cannot be read",
    ),
    "manifest is a list": (
        lambda p: (p / "manifest.json").write_text("[]"),
        "manifest.json cannot be read",
    ),
    "flipped bit in the manifest": (
        lambda p: flip(p / "manifest.json", (p / "manifest.json").read_text().index("2560")),
        "manifest.json does not match its own checksum",
    ),
    "renamed": (lambda p: (p / "state").rename(p / "stale"), "state/a.pt is missing"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_and_the_one_before_used(two: Path, kind: str) -> None:
    harm, sentence = DAMAGE[kind]
    harm(two / "step-10")
    name, said = found(two)
    assert name == "step-9"
    assert len(said) == 1
    assert f"{two / 'step-10'} is damaged: {sentence}" in said[0]


@pytest.mark.parametrize("at", range(0, 620, 7))
def test_any_flipped_bit_in_the_manifest_is_noticed(tmp_path: Path, at: int) -> None:
    """Bits that only change white space may pass: they change nothing that is read."""
    path = write_checkpoint(tmp_path, 3)
    text = (path / "manifest.json").read_bytes()
    before = json.loads(text)
    flip(path / "manifest.json", at % len(text))
    try:
        after = json.loads((path / "manifest.json").read_bytes())
    except ValueError:
        after = None
    assert after == before or verify(path, ALONE) is not None


def test_what_others_put_into_one_is_no_damage(two: Path) -> None:
    """NFS and desktops make files by themselves. What is hidden gets into no manifest either."""
    path = two / "step-10"
    for name in (".DS_Store", ".nfs0001", "notes.txt", "state/.DS_Store"):
        (path / name).write_bytes(b"x")
    assert list_files(path) == ["notes.txt", "state/a.pt", "state/b.pt"]
    (path / "a folder").mkdir()
    name, said = found(two)
    others = "not of the checkpoint, and not read: .DS_Store, .nfs0001, a folder and 1 more"
    assert (name, said) == ("step-10", [f"in {path}, which is whole: {others}"])


def test_nothing_left_is_the_users_to_know(two: Path) -> None:
    for step in (9, 10):
        flip(two / f"step-{step}" / "state" / "a.pt")
    with pytest.raises(UserError, match=r"--load .*step-9 is damaged.*no whole checkpoint is left"):
        found(two)


def test_beside_a_damaged_one_that_was_named_others_are_offered(two: Path) -> None:
    for step in (3, 7, 12):
        write_checkpoint(two, step)
    (two / "step-7" / "state" / "b.pt").unlink()
    flip(two / "step-10" / "state" / "a.pt", 77)
    beside = "; whole beside it, by names and sizes: step-9, step-3, step-12: give {}{}/step-9"
    damaged = rf"step-10 is damaged: .*\(SHA-256 differs\){beside}\Z"
    with pytest.raises(UserError, match=r"--load .*" + damaged.format("LOAD=", two)):
        find_latest(two / "step-10", lambda _: None)
    with pytest.raises(UserError, match="RUN: .*" + damaged.format("", two)):
        find_latest(two / "step-10", lambda _: None, asked="RUN")
    for step in (3, 9, 12):
        shutil.rmtree(two / f"step-{step}")
    with pytest.raises(UserError, match="no whole checkpoint is left to go on from"):
        find_latest(two / "step-10", lambda _: None)


def run_of_a_chain(chain: Path, number: int, steps: list[int]) -> Path:
    """The checkpoints of a run that went on from the one with the number before."""
    run = chain / f"run-{number}"
    (run / "checkpoints").mkdir(parents=True)
    load = f"run-{number - 1}/checkpoints" if number else ""
    summary = {"directory": str(chain), "settings": {"run": {"load": load}}}
    (run / "summary.json").write_text(json.dumps(summary))
    for step in steps:
        write_checkpoint(run / "checkpoints", step)
    return run / "checkpoints"


def test_where_none_of_a_run_is_whole_the_run_before_has_one(tmp_path: Path) -> None:
    """A run of a chain that was killed after its first save, which the disk then lost."""
    first, second, third = (run_of_a_chain(tmp_path, n, [2 * n + 3, 2 * n + 4]) for n in range(3))
    for folder in (second, third):
        for path in folder.glob("step-*/state/a.pt"):
            path.write_bytes(b"x")
    said: list[str] = []
    damaged: set[Path] = set()
    assert find_latest(third, said.append, damaged=damaged)[0] == first / "step-4"
    assert len(damaged) == len(said[:-1]) == 4
    assert said[-1] == (
        f"no checkpoint in {third} is whole: {first / 'step-4'} is taken, of a run before it"
    )
    claim_folder(third, first / "step-4", damaged).release()
    # Who names a checkpoint, or asks a network, means that one
    for given, asked in ((third / "step-8", ""), (third, "RUN")):
        with pytest.raises(UserError, match=r"step-\d is damaged"):
            find_latest(given, said.append, asked=asked)
    for path in first.glob("step-*/manifest.json"):
        path.unlink()
    with pytest.raises(UserError, match=rf"--load {third} .* no whole checkpoint is left"):
        find_latest(third, said.append)


@pytest.mark.parametrize("records", [True, False])
def test_what_the_run_before_did_later_is_not_taken(tmp_path: Path, records: bool) -> None:
    """It has trained on by itself since; what this one removed of its own says nothing."""
    first, second = (run_of_a_chain(tmp_path, n, [2 * n + 3, 2 * n + 4]) for n in range(2))
    if records:
        (second.parent / "metrics.jsonl").write_text('{"iteration": 4}\n{"iteration": 5}\n')
    for step in (20, 40):
        write_checkpoint(first, step)
    for path in second.glob("step-*/state/a.pt"):
        path.write_bytes(b"x")
    expected = first / ("step-3" if records else "step-4")
    assert find_latest(second, lambda _: None)[0] == expected


def test_a_run_that_goes_round_in_circles_ends(tmp_path: Path) -> None:
    """Saved where it loaded from."""
    folder = run_of_a_chain(tmp_path, 1, [3])
    summary = {"settings": {"run": {"load": str(folder)}}}
    (tmp_path / "run-1/summary.json").write_text(json.dumps(summary))
    (folder / "step-3" / "state" / "b.pt").unlink()
    with pytest.raises(UserError, match="no whole checkpoint is left"):
        found(folder)


def test_no_checkpoint_and_no_folder(tmp_path: Path) -> None:
    """Scripts of Megatron-DeepSpeed load and save in one folder, which is empty at first."""
    with pytest.raises(UserError, match=r"it holds no checkpoint; leave it out for a first run\Z"):
        found(tmp_path)
    with pytest.raises(UserError, match=r"no such folder; leave it out for a first run\Z"):
        found(tmp_path / "typo")


def test_those_of_megatron_deepspeed_are_named_with_what_converts_them(tmp_path: Path) -> None:
    two = write_two(tmp_path / "two")
    for folder in (tmp_path / "its", two):
        folder.mkdir(exist_ok=True)
        (folder / "latest_checkpointed_iteration.txt").write_text("3")
    (tmp_path / "its/latest").write_text("global_step3")
    convert = rf"\./longseq\.sh convert {tmp_path}/its --output FOLDER makes one to go on from"
    with pytest.raises(UserError, match=rf"Megatron-DeepSpeed's, of which {convert}"):
        found(tmp_path / "its")
    with pytest.raises(UserError, match=f"RUN: .*{convert}"):
        find_latest(tmp_path / "its", print, asked="RUN")
    assert found(two)[0] == "step-10"  # ours are beside them


@pytest.mark.parametrize("text", ["", "step-", "step-99\n", "garbage\0", "../step-9", "step-10 x"])
def test_pointer_that_points_nowhere(two: Path, text: str) -> None:
    (two / "latest").write_text(text)
    assert found(two)[0] == "step-10"


def test_pointer_may_be_set_back_by_hand(two: Path) -> None:
    (two / "latest").write_text("step-9\n")
    assert found(two) == ("step-9", [])
    flip(two / "step-9" / "state" / "a.pt")
    name, said = found(two)
    assert (name, len(said)) == ("step-10", 1)


def test_unfinished_checkpoints_are_not_candidates(two: Path) -> None:
    (two / "step-10").rename(two / "step-11.tmp")
    assert found(two)[0] == "step-9"
    (two / "step-11.tmp").rename(two / "step-10.replaced")  # between two renames of a save
    (two / "latest").write_text("step-10")
    assert found(two)[0] == "step-10.replaced"


def test_files_outside_are_refused(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "c", 1)
    (tmp_path / "outside").write_text("x")
    files = {"../../outside": describe(tmp_path / "outside")}
    replace(manifest_of(1), files=files).write(path)
    assert "lies outside the checkpoint" in (verify(path, ALONE) or "")


def test_ranks_share_the_reading(two: Path) -> None:
    """Damage in a file that the other rank reads is known to this one through the exchange."""
    flip(two / "step-10" / "state" / "b.pt")  # second of two files
    others = Ranks(0, 2, lambda item: [item, "state/b.pt is not what was written"])
    assert "b.pt" in (verify(two / "step-10", others) or "")
    first = Ranks(0, 2, lambda item: [item, None])
    assert verify(two / "step-10", first) is None  # rank 0 of two reads a.pt only


def test_manifest_survives_the_round_trip(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 5)
    manifest = read_manifest(path)
    assert manifest == replace(manifest_of(5), files=manifest.files)
    assert manifest.files["state/a.pt"].size == 1280
    with pytest.raises(Damaged):
        read_manifest(tmp_path)


def test_a_file_is_hashed_in_blocks(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block is noticed, whichever rank has it, and a manifest that leaves one out."""
    monkeypatch.setattr(manifests, "BLOCK", 1000)
    path = write_checkpoint(two, 11)
    assert len(read_manifest(path).files["state/a.pt"].sha256) == 3
    assert verify(path, ALONE) is None
    for block in range(3):
        flip(path / "state" / "a.pt", 1000 * block + 5)
        assert "SHA-256 differs" in (verify(path, ALONE) or "")
        flip(path / "state" / "a.pt", 1000 * block + 5)
    entries = read_manifest(path).files
    fewer = replace(entries["state/a.pt"], sha256=entries["state/a.pt"].sha256[:2])
    replace(manifest_of(11), files={**entries, "state/a.pt": fewer}).write(path)
    assert verify(path, ALONE) == "state/a.pt has 2 hashes in manifest.json"


def test_each_piece_of_work_is_a_tick(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a file that takes a slow disk an hour: it is flushed from time to time."""
    monkeypatch.setattr(tensor_files, "FLUSH", 1 << 20)

    def done(act: Callable[[], object]) -> int:
        before = ticks()
        act()
        return ticks() - before

    # Four pieces, of which three end beyond a multiple of FLUSH, and the end
    pieces = [bytes(3 << 18)] * 4
    assert done(lambda: tensor_files.write(two / "file", pieces)) == 4 + 3 + 1
    assert done(lambda: verify(two / "step-10")) == 2
    assert done(lambda: remove(write_flat(two / "old", 3))) == 3


def write_flat(folder: Path, files: int) -> Path:
    folder.mkdir()
    for number in range(files):
        (folder / str(number)).touch()
    return folder


def test_the_old_form_is_refused_in_one_line(tmp_path: Path) -> None:
    """A whole checkpoint of before, whose files were pickles."""
    (tmp_path / "step-1").mkdir()
    body = {"format": 1, "step": 1, "layout": {}, "versions": {}, "files": {}}
    text = json.dumps(body | {"checksum": manifests._checksum(body)})
    (tmp_path / "step-1" / "manifest.json").write_text(text)
    with pytest.raises(UserError, match="step-1 has format 1 and this version reads 2: go on with"):
        found(tmp_path)


def with_a_key_more(path: Path) -> None:
    """As a version after this one may write it."""
    body = json.loads((path / "manifest.json").read_text())
    del body["checksum"]
    body["experts"] = 8
    text = json.dumps(body | {"checksum": manifests._checksum(body)})
    (path / "manifest.json").write_text(text)


def test_one_of_a_later_version_is_refused_and_neither_passed_over_nor_replaced(two: Path) -> None:
    with_a_key_more(two / "step-10")
    with pytest.raises(UserError) as raised:
        found(two)
    assert str(raised.value) == (
        f"checkpoint {two / 'step-10'} has experts in its manifest.json, which this version does"
        " not know: go on with the version that wrote it, or start anew without --load (LOAD or"
        " RESUME)"
    )
    for use in (claim_folder, may_use):
        with pytest.raises(UserError, match="holds step-10, later than step-9"):
            use(two, two / "step-9")


def test_whoever_changes_the_manifest_has_thought_of_its_format(tmp_path: Path) -> None:
    """manifest.py's first lines say which changes older versions would take for something else, and
    so need another FORMAT. Then these lines are to be changed, too.
    """
    body = json.loads((write_checkpoint(tmp_path, 3) / "manifest.json").read_text())
    assert body["format"] == manifests.FORMAT == 2
    assert " ".join(body) == (
        "format progress network optimizer vocabulary tokenizer layout versions numbers tensors"
        " files spikes data checksum"
    )
    assert " ".join(body["progress"]) == "iteration consumed_samples consumed_tokens"
    assert " ".join(body["files"]["state/b.pt"]) == "size sha256"


def test_one_from_before_there_were_spikes_and_data_in_it(two: Path) -> None:
    path = two / "step-10" / "manifest.json"
    body = json.loads(path.read_text())
    for name in ("checksum", "spikes", "data"):
        del body[name]
    path.write_text(json.dumps(body | {"checksum": manifests._checksum(body)}))
    manifest = find_latest(two, pytest.fail)[1]
    assert (manifest.progress["iteration"], manifest.spikes, manifest.data) == (10, {}, {})


def test_a_fresh_run_does_not_write_among_anothers(two: Path) -> None:
    for claim in (claim_folder, may_use):
        with pytest.raises(UserError, match="holds step-10 of another run: give --load"):
            claim(two, None)
        with pytest.raises(UserError, match="holds step-10 of another run"):
            claim(two, two.parent / "elsewhere" / "step-10")
        with pytest.raises(UserError, match="holds step-10, later than step-9"):
            claim(two, two / "step-9")
    flip(two / "step-10" / "manifest.json", 3)  # a damaged one may be replaced
    claim_folder(two, two / "step-9").release()
    may_use(two.parent / "not there", None)


def test_two_runs_at_once(two: Path) -> None:
    """The second is refused while the first lives; kill -9 of it frees the folder."""
    code = (
        "import sys, time; from pathlib import Path;"
        " from longseq.checkpoint.owner import claim_folder;"
        f" claim = claim_folder(Path({str(two)!r}), Path({str(two)!r}) / 'step-10');"
        " print('has it', flush=True); time.sleep(60)"
    )
    first = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "has it\n"
        for claim in (claim_folder, may_use):
            with pytest.raises(
                UserError, match=rf"another run \(process {first.pid} on .* writing"
            ):
                claim(two, two / "step-10")
    finally:
        first.kill()
        first.communicate()
    claim_folder(two, two / "step-10").release()


def linked(folder: Path, step: int, archive: Path) -> Path:
    """A checkpoint that somebody has moved away, with a link in its place; where it is now."""
    archive.mkdir(exist_ok=True)
    moved = (folder / f"step-{step}").rename(archive / f"step-{step}")
    (folder / f"step-{step}").symlink_to(moved)
    return moved


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_of_a_link_the_link_goes(two: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where it is forgotten, left by a killed run, or replaced; what it names stays."""
    archive = tmp_path_factory.mktemp("archive")
    moved = linked(two, 9, archive)
    assert forget(two, 10, 1, 0) == []
    assert names(two) == ["latest", "step-10"]
    (two / "step-9.tmp").symlink_to(moved)
    (two / "step-10.replaced").symlink_to(moved)
    assert clean(two) == []
    assert names(two) == ["latest", "step-10"]
    aside = write_checkpoint(two, 7).rename(two / "step-10.tmp")
    other = linked(two, 10, archive)
    commit(two, 10, read_manifest(aside))
    assert names(two) == ["latest", "step-10"]
    assert read_manifest(two / "step-10").progress["iteration"] == 7
    assert verify(moved, ALONE) is verify(other, ALONE) is None


def test_a_link_that_leads_nowhere_is_replaced(two: Path) -> None:
    aside = (two / "step-10").rename(two / "step-10.tmp")
    (two / "step-10").symlink_to(two / "gone")
    commit(two, 10, read_manifest(aside))
    assert found(two) == ("step-10", [])


def test_one_moved_away_is_still_the_runs(
    two: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    linked(two, 10, tmp_path_factory.mktemp("archive"))
    claim_folder(two, find_latest(two, pytest.fail)[0]).release()


def test_who_only_asks_keeps_nobody_out(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look from another process falls together with the claim."""
    claim_folder(two, two / "step-10").release()
    asks = (two / "owner.json").open()
    fcntl.flock(asks, fcntl.LOCK_EX)
    monkeypatch.setattr(time, "sleep", lambda _: asks.close())
    claim = claim_folder(two, two / "step-10")
    with pytest.raises(UserError, match=r"another run .* is writing checkpoints"):
        claim_folder(two, two / "step-10")
    claim.release()


def test_a_link_among_them_is_the_one_that_it_leads_to(two: Path) -> None:
    for name in ("step-9", "step-10"):
        (two / f"best-{name}").symlink_to(name)
    claim_folder(two, find_latest(two / "best-step-10", pytest.fail)[0]).release()
    with pytest.raises(UserError, match="holds step-10, later than best-step-9"):
        may_use(two, two / "best-step-9")


def test_one_that_stays_keeps_no_other(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be removed is told; one between two names of a save that was killed goes too."""
    for step in (3, 11, 12):
        write_checkpoint(two, step)
    (two / "step-3").rename(two / "step-3.replaced")
    (two / "step-9.tmp").mkdir()
    (two / "step-9.tmp" / "stays").touch()
    (said,) = forget(two, 12, 2, 0)
    assert said == f"{two / 'step-9'} cannot be removed: Directory not empty"
    assert names(two) == ["latest", "step-11", "step-12", "step-9", "step-9.tmp"]

    def refuse(path: Path) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy", str(path / "stays"))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    (two / ".latest.1.tmp").touch()
    assert clean(two) == [f"{two / 'step-9.tmp'} cannot be removed: Device or resource busy"]
    assert not (two / ".latest.1.tmp").exists()


def test_a_damaged_one_that_was_passed_over_may_be_replaced(two: Path) -> None:
    """Also where only its hashes tell, as of one flipped bit, and under another name."""
    flip(two / "step-10" / "state" / "a.pt", 77)
    damaged: set[Path] = set()
    loaded, _ = find_latest(two / ".." / two.name, lambda _: None, damaged=damaged)
    claim_folder(two, loaded, damaged).release()
    write_checkpoint(two, 11)
    with pytest.raises(UserError, match="holds step-11, later than step-9"):
        claim_folder(two, loaded, damaged)


def test_what_a_killed_run_left_of_a_save_is_named(
    two: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once, and not where the next save removes it."""
    (two / "step-12.tmp").mkdir()
    (two / "step-12.tmp/rank-00000.safetensors").write_bytes(bytes(3 << 20))
    monkeypatch.setattr(request, "check_fit", lambda *_: None)
    monkeypatch.setattr(request, "check_vocabulary", lambda *_: None)
    for save, told in ((two.parent / "own", 1), (two, 0)):
        config = parse_config(["--load", str(two), "--save", str(save)], 1)
        for vocabulary in (0, 16):
            check_request(config, vocabulary, pytest.fail)
        text = f"{two} holds what is left of a save: step-12.tmp (3.0 MiB)"
        line = f"longseq: note: {text}; unless its run still writes, remove it\n"
        assert capsys.readouterr().err == line * told
    assert (two / "step-12.tmp").is_dir()
