"""With a protection switched off, the test that watches it fails; else it would watch nothing.

Each case takes one protection away and runs the test. Those with a failsafe of their own stand
beside it: renaming after writing (test_checkpoint_crashes.py), pickles (test_checkpoint_damage.py),
going back (test_rewind.py), refusing an update (tests/parallel/test_trainer.py).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from longseq.checkpoint import owner
from longseq.checkpoint.format import folder as folders
from longseq.checkpoint.format import manifest as manifests
from longseq.checkpoint.saver import Saver
from longseq.checkpoint.state.share import Share
from longseq.data.samples.samples import FileSamples
from longseq.errors import UserError
from longseq.run.safety import stopping
from longseq.run.safety.stopping import Stopper
from tests.faults import test_checkpoint_crashes as crashes
from tests.faults import test_checkpoint_damage as damage
from tests.faults import test_data_damaged as data
from tests.unit.checkpoint import test_checkpoint_folder as folder_tests
from tests.unit.run.safety import test_stopping as stops

FAILED = (AssertionError, pytest.fail.Exception)
Patch = pytest.MonkeyPatch


def nothing(*_: object, **__: object) -> None:
    """In the place of a check."""


def no_owner(folder: Path, off: Patch) -> None:
    off.setattr(owner, "may_use", nothing)
    folder_tests.test_a_fresh_run_does_not_write_among_anothers(folder_tests.write_two(folder))


def no_lock(folder: Path, off: Patch) -> None:
    off.setattr(owner, "_lock", lambda _: True)
    folder_tests.test_two_runs_at_once(folder_tests.write_two(folder))


def no_second_look_at_the_owner(folder: Path, off: Patch) -> None:
    off.setattr(owner.Claim, "check", nothing)
    crashes.test_another_run_that_takes_the_folder_is_noticed(folder)


def anything_is_finite(folder: Path, off: Patch) -> None:
    off.setattr(torch, "isfinite", torch.ones_like)
    crashes.test_what_is_not_finite_is_not_saved(folder, "moment")


def no_look_at_the_space(folder: Path, off: Patch) -> None:
    def prepare(_: Saver, aside: Path, _need: int) -> list[str]:
        aside.mkdir()
        return []

    off.setattr(Saver, "_prepare", prepare)
    crashes.test_space_is_looked_at_before(folder, off)


def no_copy(folder: Path, off: Patch) -> None:
    usual = Share.write
    off.setattr(Share, "write", lambda self, path, _memory: usual(self, path))
    crashes.test_training_goes_on_beside_a_save(folder, off)


def no_hashes(folder: Path, off: Patch) -> None:
    off.setattr(folders, "check_blocks", nothing)
    damage.test_damage_is_named_and_the_one_before_used(
        damage.save_two(folder), "rank-00000.safetensors", "a flipped bit"
    )


def no_sizes(folder: Path, off: Patch) -> None:
    off.setattr(folders, "check_blocks", nothing)
    off.setattr(folders, "check_names", nothing)
    damage.test_damage_is_named_and_the_one_before_used(
        damage.save_two(folder), "rank-00000.safetensors", "truncated"
    )


def no_names(folder: Path, off: Patch) -> None:
    off.setattr(folders, "check_blocks", nothing)
    off.setattr(folders, "check_names", nothing)
    damage.test_damage_is_named_and_the_one_before_used(
        damage.save_two(folder), "vocabulary.json", "missing"
    )


def no_checksum_of_the_manifest(folder: Path, off: Patch) -> None:
    off.setattr(manifests, "_checksum", lambda _: mock.ANY)
    off.setattr(json, "dumps", json_of_anything(json.dumps))
    for at in range(0, 620, 7):
        with contextlib.suppress(UserError):  # a name that is not known is noticed all the same
            folder_tests.test_any_flipped_bit_in_the_manifest_is_noticed(folder / str(at), at)


def json_of_anything(usual: Callable[..., str]) -> Callable[..., str]:
    return lambda body, **options: usual(body, default=lambda _: "", **options)


def no_room_for_a_save(_: Path, off: Patch) -> None:
    off.setattr(Stopper, "margin", lambda *_: stopping.LEAST_MARGIN)
    stops.test_stops_with_room_for_a_save(stops.set_clock(off, stops.Clock()), 1, 10)


def a_clock_that_is_set(_: Path, off: Patch) -> None:
    off.setattr(stops.Clock, "monotonic", stops.Clock.time)
    stops.test_a_clock_that_jumps_changes_nothing(stops.set_clock(off, stops.Clock()))


def no_agreement_to_stop(_: Path, off: Patch) -> None:
    off.setattr(Stopper, "should_stop", lambda self, _: stopping.REASONS.get(self.request()))
    stops.test_signal_on_one_rank_stops_all()


def no_look_at_tokens(folder: Path, off: Patch) -> None:
    def read(self: FileSamples, *where: Any) -> Any:
        return self.layout.read(*where)

    off.setattr(FileSamples, "_checked", read)
    data.test_what_is_written_over_is_noticed(folder)


CASES = (
    no_owner,
    no_lock,
    no_second_look_at_the_owner,
    anything_is_finite,
    no_look_at_the_space,
    no_copy,
    no_hashes,
    no_sizes,
    no_names,
    no_checksum_of_the_manifest,
    no_room_for_a_save,
    a_clock_that_is_set,
    no_agreement_to_stop,
    no_look_at_tokens,
)


@pytest.mark.parametrize("case", CASES)
def test_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Callable[[Path, Patch], None]
) -> None:
    with pytest.raises(FAILED):
        case(tmp_path, monkeypatch)
