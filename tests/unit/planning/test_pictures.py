"""The pictures of memory: what their axes are, and areas that need no colour."""

import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from longseq.config.arguments import Config, Layout, Network
from longseq.planning.command import plan_of
from longseq.planning.gpus import node_of
from longseq.planning.show import draw as draw_plan
from longseq.planning.simulate.kinds import KINDS
from longseq.planning.simulate.rank import Simulation
from longseq.planning.simulate.show import draw
from longseq.planning.simulate.trace import Moment
from tests.unit.planning.test_show import FLAGS


def hatches(drawn: str) -> list[str]:
    return re.findall(r"<pattern id=\"(\w+)\"", drawn)


def test_a_simulated_step_says_what_it_is_drawn_by(tmp_path: Path) -> None:
    moments = [Moment(at, 9 * at << 30, (at << 30,) * len(KINDS)) for at in range(1, 9)]
    peak = Moment(8, 72 << 30, (8 << 30,) * len(KINDS), "backward", "layers.py:60 forward")
    found = Simulation(peak, moments, [(1, "forward"), (4, "backward")], 0, {}, Counter(), 9, 0)
    path = tmp_path / "step.svg"
    config = SimpleNamespace(network=Network(num_layers=3, seq_length=4096), layout=Layout())
    draw(found, cast(Config, config), path)
    drawn = path.read_text()
    assert "PyTorch operations since the step began (not time)" in drawn
    assert "one step of 3 layers, 4,096 tokens, 1 rank<" in drawn
    assert len(set(hatches(drawn))) >= len(KINDS) - 1  # the first has none


def test_a_plan_is_hatched(tmp_path: Path) -> None:
    plan = plan_of(FLAGS, node_of("polaris"), 8, "50304")
    draw_plan(plan, tmp_path / "plan.svg")
    drawn = (tmp_path / "plan.svg").read_text()
    seen = [size for size in plan.by_kind.values() if size > 0.005]
    assert len(set(hatches(drawn))) == len(seen) - 1
