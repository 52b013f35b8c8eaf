"""A two-layer network under DeepSpeed that saves and resumes: run under mpiexec by the tests.

Prints each step's loss in hexadecimal, so that equal lines mean equal bits.
"""

import argparse
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import deepspeed  # noqa: E402
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402

from longseq.checkpoint import checkpoint  # noqa: E402
from longseq.errors import EXIT_USER_ERROR, UserError  # noqa: E402
from longseq.host.shared_memory import keep_off  # noqa: E402
from longseq.parallel.agreement import torch_ranks  # noqa: E402


class Shards:
    """An mpu: with tp = 2 each rank holds another network, without any communication."""

    def __init__(self, tp: int) -> None:
        world, rank = dist.get_world_size(), dist.get_rank()
        alone = [dist.new_group([r]) for r in range(world)][rank]
        every = dist.new_group(range(world))
        groups = (every, alone) if tp > 1 else (alone, every)
        self.model: Any = groups[0]
        self.data: Any = groups[1]

    def get_model_parallel_group(self) -> Any:
        return self.model

    def get_model_parallel_rank(self) -> int:
        return dist.get_rank(self.model)

    def get_model_parallel_world_size(self) -> int:
        return dist.get_world_size(self.model)

    def get_data_parallel_group(self) -> Any:
        return self.data

    def get_data_parallel_rank(self) -> int:
        return dist.get_rank(self.data)

    def get_data_parallel_world_size(self) -> int:
        return dist.get_world_size(self.data)

    get_tensor_model_parallel_group = get_model_parallel_group
    get_tensor_model_parallel_rank = get_model_parallel_rank
    get_tensor_model_parallel_world_size = get_model_parallel_world_size


def make_engine(args: argparse.Namespace, shards: Shards) -> deepspeed.DeepSpeedEngine:
    torch.manual_seed(1 + shards.get_model_parallel_rank())
    width = args.width
    network = torch.nn.Sequential(
        torch.nn.Linear(width, width), torch.nn.Dropout(0.1), torch.nn.Linear(width, width)
    )
    config = {
        "train_micro_batch_size_per_gpu": 2,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 1.0,
        "zero_optimization": {"stage": args.stage},
        "bf16": {"enabled": args.bf16},
        "zero_allow_untested_optimizer": True,
    }
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    return deepspeed.initialize(
        model=network, optimizer=optimizer, lr_scheduler=schedule, mpu=shards, config=config
    )[0]


def train(args: argparse.Namespace) -> None:
    ranks = torch_ranks()
    shards = Shards(args.tp)
    engine = make_engine(args, shards)
    layout = {"tp": args.tp, "dp": shards.get_data_parallel_world_size(), "zero": args.stage}
    start = 0
    if args.load:
        path = checkpoint.find_latest(args.folder, ranks, lambda text: print(f"warning: {text}"))
        start = checkpoint.load(engine, path, layout=layout, ranks=ranks)["step"]
    dtype = torch.bfloat16 if args.bf16 else torch.float32
    for step in range(start + 1, args.steps + 1):
        batch = torch.randn(2, args.width, generator=torch.Generator().manual_seed(step)).to(dtype)
        loss = (engine(batch) - batch).float().square().mean()
        engine.backward(loss)
        engine.step()
        losses = ranks.gather(float(loss).hex())
        if ranks.rank == 0:
            print("step", step, *losses, flush=True)
        if args.save_interval and step % args.save_interval == 0:
            checkpoint.save(
                engine,
                args.folder,
                step,
                client_state={"step": step},
                layout=layout,
                versions={"torch": torch.__version__},
                ranks=ranks,
            )
            if ranks.rank == 0:
                print("saved", step, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    numbers = {"steps": 4, "save-interval": 0, "stage": 0, "tp": 1, "width": 8}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--load", action="store_true")
    args = parser.parse_args()
    rank, world = os.environ.get("PMI_RANK", "0"), os.environ.get("PMI_SIZE", "1")
    os.environ.update(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=world, MASTER_ADDR="127.0.0.1")
    torch.set_num_threads(1)
    keep_off()
    deepspeed.init_distributed("gloo", auto_mpi_discovery=False, verbose=False)
    try:
        train(args)
    except UserError as error:
        if rank == "0":
            print(f"longseq: {error}", file=sys.stderr, flush=True)
        return EXIT_USER_ERROR
    dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # as pretrain_gpt.py does
