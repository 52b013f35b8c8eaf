"""One rank of Megatron-DeepSpeed: what pretrain_gpt.py runs for --trainer megatron-deepspeed.

    exit_code = train(config, watch)      # as longseq.training.loop.train

Its own pretrain_gpt.py is imported from the checkout and its `pretrain` is called as it calls it
itself, with our data sets. What it prints goes to RUN/log/rankN.out, and not on the screen.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from longseq.checkpoint.format.folder import THEIRS
from longseq.checkpoint.other_samples import of_all
from longseq.config.arguments import UPSTREAM, Config
from longseq.data.held_out import refuse_empty, write_held_out
from longseq.data.numbering import numbering
from longseq.data.opening import TrainingData, open_data
from longseq.engine.distributed import pick_device, start_distributed
from longseq.engine.engine import start_deepspeed
from longseq.errors import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED_EARLY, UserError
from longseq.parallel.agreement import Ranks, torch_ranks
from longseq.reports.format import duration
from longseq.reports.page import write_page
from longseq.reports.runs import DONE, RUNNING, STOPPED, read_run
from longseq.run.check import DS_CONFIG
from longseq.run.environment import write_environment
from longseq.run.safety.failure import record_failure
from longseq.run.safety.watch import Watch
from longseq.run.screen import Screen, open_log, terminal_width, warn_early
from longseq.run.stdio import lossy
from longseq.run.summary import Rows, closing_rows, opening_rows, write_summary
from longseq.upstream import fixes, stand_ins
from longseq.upstream.arguments import attention_kernel, recomputes_all, upstream_arguments
from longseq.upstream.checkout import COMMIT
from longseq.upstream.converting.meaning import CORRECTED
from longseq.upstream.converting.rows import since_fpdt
from longseq.upstream.data import TheTokenizer, datasets
from longseq.upstream.faults import lines_for
from longseq.upstream.names import Held, first_values
from longseq.upstream.record import Recorder, Stopped
from longseq.upstream.resume import OurCheckpoint, our_checkpoint


def train(config: Config, watch: Watch) -> int:
    """Train as `config` says; returns the exit code. Raises UserError before the first step."""
    _check_is_prepared(config.run.run_dir)
    device = pick_device(config)
    start_distributed(device)
    ranks = torch_ranks()
    folder = Path(config.run.run_dir) if config.run.run_dir else None
    if folder:
        open_log(folder, ranks.rank)
    start_deepspeed()
    # Its loss takes no weights, nor do the marks beside it
    length, seed = config.network.seq_length, config.training.seed
    data = open_data(config.data, length, seed, with_weights=False)
    refuse_empty(data.cuts, config.data, validates=config.run.eval_iters > 0)
    of_all(numbering(data.cuts, config.data, seed), ranks)
    ours = our_checkpoint(config, warn_early, ranks)
    at = _resumed_at(config, ours)
    screen = Screen(
        rank=ranks.rank,
        start=at,
        total=config.training.train_iters,
        log_interval=config.run.log_interval,
        width=terminal_width(),
        file=sys.stdout,
    )
    recorder = Recorder(config, watch, data, ranks, device.type, screen)
    recorder.iteration = at
    code = EXIT_FAILED
    try:
        with _prints_kept(folder, ranks):
            code = _pretrain(config, data, recorder, ours)
        watch.closing(code)
        _say_how_it_ended(config, recorder, code)
    except Exception as error:
        if folder:
            with contextlib.suppress(OSError):
                record_failure(folder, error)
        raise
    finally:
        recorder.close(code)
    return code


def _check_is_prepared(folder: str) -> None:
    """It reads DeepSpeed's settings from the run's folder, where `longseq check` writes them."""
    if not folder or not (Path(folder) / DS_CONFIG).is_file():
        where = f"--run-dir {folder}" if folder else "a --run-dir"
        raise UserError(
            f"--trainer {UPSTREAM} needs {DS_CONFIG} in {where}: TRAINER={UPSTREAM}"
            " ./ALCF/train-gpt3.sh writes it and starts the ranks"
        )


@contextlib.contextmanager
def _prints_kept(folder: Path | None, ranks: Ranks) -> Iterator[None]:
    """Rank 0's prints go into its log alone; those of the others are there already."""
    if folder is None or ranks.rank:
        yield
        return
    log = folder / "log" / "rank0.out"
    with (
        log.open("a", buffering=1, encoding="utf-8") as file,
        contextlib.redirect_stdout(lossy(file)) as prints,
    ):
        try:
            yield
        finally:
            prints.flush()


def import_upstream(config: Config) -> ModuleType:
    """Its pretrain_gpt.py, with all that it imports and needs on this machine."""
    checkout = Path(config.run.megatron_deepspeed_dir)
    stand_ins.provide(checkout)
    spec = importlib.util.spec_from_file_location("upstream_gpt", checkout / "pretrain_gpt.py")
    assert spec is not None
    assert spec.loader is not None
    main = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(main)
    stand_ins.adapt()
    return main


def _resumed_at(config: Config, ours: OurCheckpoint | None) -> int:
    """The iteration of the checkpoint that --load names; 0: none."""
    if ours:
        return ours.manifest.progress["iteration"]
    load = config.run.load
    text = (Path(load) / THEIRS).read_text(encoding="utf-8").strip() if load else ""
    return int(text) if text.isdecimal() else 0


def _pretrain(
    config: Config, data: TrainingData, recorder: Recorder, ours: OurCheckpoint | None
) -> int:
    main = import_upstream(config)
    training = import_module("megatron.training")
    if not config.run.as_shipped:
        fixes.correct(main, data.vocab_size, recorder.device == "cuda")
    _use_our_tokenizer(data)
    refuse_other_rows(config.run.load)
    _around_the_model(training, config, data, ours)
    recorder.listen(training)
    _say_what_runs(config, data, recorder)
    sys.argv = ["pretrain_gpt.py", *upstream_arguments(config, data.vocab_size)]
    try:
        training.pretrain(
            datasets(data, config),
            main.model_provider,
            main.ModelType.encoder_or_decoder,
            main.forward_step,
            data_post_process=main.data_post_process,
        )
    except Stopped:
        return EXIT_STOPPED_EARLY if recorder.saved else EXIT_FAILED
    return EXIT_DONE


def refuse_other_rows(load: str) -> None:
    """Its reader takes its older versions' checkpoints too, and their rows for others."""
    checkpointing: Any = import_module("megatron.checkpointing")
    shipped = checkpointing.check_checkpoint_args

    def check_checkpoint_args(args: Any) -> None:
        if not since_fpdt(args):
            raise UserError(
                f"--load {load} (LOAD): Megatron-DeepSpeed wrote it before December 2024, when its"
                f" queries, keys and values lay in another order, and commit {COMMIT[:7]} would"
                " read them as its own: ./longseq.sh convert makes one of ours of it, to go on from"
            )
        shipped(args)

    checkpointing.check_checkpoint_args = check_checkpoint_args


def _use_our_tokenizer(data: TrainingData) -> None:
    global_vars: Any = import_module("megatron.global_vars")
    tokenizer = import_module("megatron.tokenizer.tokenizer")

    def build_tokenizer(args: Any) -> TheTokenizer:
        made = TheTokenizer(data)
        args.padded_vocab_size = tokenizer._vocab_size_with_padding(made.vocab_size, args)
        return made

    global_vars.build_tokenizer = build_tokenizer


def _around_the_model(
    training: Any, config: Config, data: TrainingData, ours: OurCheckpoint | None
) -> None:
    """Start the model from our values when it is built, and correct it; go on where ours is."""
    get_model, get_schedule = training.get_model, training.get_optimizer_param_scheduler
    set_up = training.setup_model_and_optimizer
    state = import_module("megatron.core.parallel_state")
    held: list[Held] = []

    def model_of_ours(*args: Any, **more: Any) -> Any:
        (model,) = models = get_model(*args, **more)
        held.append(Held.of(model, config, state.get_tensor_model_parallel_rank()))
        if config.layout.sequence_parallel and not config.run.as_shipped:
            fixes.sum_gradients(model, state.get_tensor_model_parallel_group())
        if ours:
            held[0].fill(ours.values("weight"))
        elif not (config.run.as_shipped or config.run.load):
            net, seed = config.network, config.training.seed
            held[0].fill(first_values(net, data.vocab_size, seed))
        return models

    def schedule_of_ours(*args: Any, **more: Any) -> Any:
        schedule = get_schedule(*args, **more)
        if not config.run.as_shipped:
            schedule.step(increment=config.global_batch_size)  # ours counts the update it is for
        return schedule

    def set_up_and_go_on(*args: Any, **more: Any) -> Any:
        made = set_up(*args, **more)
        axes = config.layout
        # Saved with its arguments, for who converts them
        setattr(training.get_args(), CORRECTED, not config.run.as_shipped)
        if axes.ulysses > 1 and config.training.zero_stage == 3 and not config.run.as_shipped:
            fixes.whole_gradients(made[0][0], axes.ulysses)
        if ours:
            ours.go_on(training.get_args(), held[0], made)
        return made

    training.get_model = model_of_ours
    training.get_optimizer_param_scheduler = schedule_of_ours
    training.setup_model_and_optimizer = set_up_and_go_on


def _say_what_runs(config: Config, data: TrainingData, recorder: Recorder) -> None:
    how = "every layer is made again in backward" if recomputes_all(config) else "all is kept"
    kernel = attention_kernel(config)
    if kernel == "v2" and not stand_ins.has_flash_attention():
        kernel = "torch's flash kernel in the place of flash-attn"
    rows = opening_rows(config, data, recorder.device, recorder.iteration, recompute=how)
    rows = [(name, kernel if name == "attention" else value) for name, value in rows]
    rows += [("trainer", f"Megatron-DeepSpeed {COMMIT[:7]}, {config.run.megatron_deepspeed_dir}")]
    rows += [("", line) for line in lines_for(config)]
    recorder.screen.opening("Megatron-DeepSpeed", rows)
    folder = config.run.run_dir
    if folder and recorder.ranks.rank == 0:
        write_environment(Path(folder))
        write_held_out(Path(folder) / "held_out.tsv", data.cuts)
        write_summary(Path(folder), config, recorder.marks, RUNNING, rows, [])
    recorder.opening = rows


def _say_how_it_ended(config: Config, recorder: Recorder, code: int) -> None:
    title = DONE if code == EXIT_DONE else STOPPED
    took = duration(time.monotonic() - recorder.watch.stopper.began)
    saved = Path(config.run.save) if recorder.saved else None
    seen = recorder.ranks.rank == 0 and len(recorder.losses.own)
    losses = recorder.losses.recent(config) if seen else []
    rows: Rows = closing_rows(config, recorder.marks, losses, recorder.validation_loss, saved, code)
    recorder.screen.closing(f"{title} after {took}", rows)
    if config.run.run_dir and recorder.ranks.rank == 0:
        folder = Path(config.run.run_dir)
        write_summary(folder, config, recorder.marks, title, recorder.opening, rows)
        if recorder.losses.own:
            write_page(read_run(folder))
