"""From what the hosts said to who is fit: every bad host by name, with the reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from longseq.doctor.probe import IDLE_GIB

LEAST_SCRATCH_GIB = 1.0
LEAST_SHARED_MEMORY_GIB = 0.5
LEAST_OUTPUT_GIB = 5.0
MOST_CLOCK_SECONDS = 5.0


@dataclass
class Verdict:
    """Hosts in the order they were given; `bad` has reasons, `remarks` what is worth knowing."""

    hosts: list[str]
    bad: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    nets: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def good(self) -> list[str]:
        return [host for host in self.hosts if host not in self.bad]

    @property
    def slowest(self) -> float | None:
        """GB/s of the all-reduce; None where there was none."""
        rates = [n["gb_per_second"] for n in self.nets.values() if "gb_per_second" in n]
        return min(rates) if rates and len(rates) == len(self.hosts) else None

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": not self.bad,
            "hosts": {
                host: {
                    "ok": host not in self.bad,
                    "reason": self.bad.get(host, ""),
                    "remark": self.remarks.get(host, ""),
                    **self.reports.get(host, {}),
                    "network": self.nets.get(host),
                }
                for host in self.hosts
            },
            "all_reduce_gb_per_second": self.slowest,
        }


def read(folder: Path, pattern: str) -> list[tuple[str, dict[str, Any]]]:
    """Files of the probe: (what stands for the star, content)."""
    found = []
    for path in sorted(folder.glob(pattern)):
        found.append((path.stem.split("-", 1)[1], json.loads(path.read_text())))
    return found


def _by_host(hosts: Sequence[str], files: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Assign each file to one of `hosts`: by the name asked for, its own name, else its rank."""
    short = {host.split(".")[0]: host for host in hosts}
    found = {}
    for name, content in files:
        own = content.get("expected") or content["host"]
        host = own if own in hosts else short.get(own.split(".")[0])
        if host is None and name.isdecimal() and int(name) < len(hosts):
            host = hosts[int(name)]
        if host is not None:
            found[host] = content
    return found


def judge(folder: Path, hosts: Sequence[str], device: str, per_host: int) -> Verdict:
    """Read a folder of the probe's files."""
    verdict = Verdict(list(hosts))
    verdict.reports = _by_host(hosts, read(folder, "report-*.json"))
    verdict.nets = _by_host(hosts, read(folder, "net-*.json"))
    usual = {
        key: Counter(json.dumps(r[key]) for r in verdict.reports.values()).most_common(1)[0][0]
        for key in ("python", "versions")
        if verdict.reports
    }
    for host in hosts:
        report = verdict.reports.get(host)
        if report is None:
            verdict.bad[host] = "does not answer"
            continue
        reasons = [*_of_software(report, usual), *_of_gpus(report, device, per_host)]
        reasons += [*_of_files(report), *_of_network(verdict.nets.get(host))]
        if verdict.nets and host not in verdict.nets:
            reasons.append(
                "answered, but did not come to the all-reduce in time: does it still import"
                " (PREFLIGHT_SECONDS)?"
            )
        if reasons:
            verdict.bad[host] = "; ".join(reasons)
        elif report["output_gib"] < LEAST_OUTPUT_GIB:
            verdict.remarks[host] = f"{report['output_gib']:.1f} GiB are left for the output"
    return verdict


def _of_software(report: Mapping[str, Any], usual: Mapping[str, str]) -> list[str]:
    reasons = []
    if json.dumps(report["python"]) != usual["python"]:
        reasons.append(f"Python {report['python']}, the others {json.loads(usual['python'])}")
    if json.dumps(report["versions"]) != usual["versions"]:
        others = json.loads(usual["versions"])
        for name in sorted(report["versions"].keys() | others.keys()):
            mine, theirs = report["versions"].get(name), others.get(name)
            if mine != theirs:
                reasons.append(f"{name} {mine or 'missing'}, the others {theirs or 'have none'}")
    return reasons


def _of_gpus(report: Mapping[str, Any], device: str, per_host: int) -> list[str]:
    if device != "cuda":
        return []
    gpus = report["gpus"] or []
    if len(gpus) < per_host:
        return [f"{len(gpus)} GPU(s) in sight, {per_host} are needed"]
    busy = [str(n) for n, gpu in enumerate(gpus) if gpu["taken_gib"] > IDLE_GIB]
    return [f"GPU {', '.join(busy)} is in use by another program"] if busy else []


def _of_files(report: Mapping[str, Any]) -> list[str]:
    reasons = []
    for key, least, what in (
        ("scratch_gib", LEAST_SCRATCH_GIB, "TMPDIR"),
        ("shared_memory_gib", LEAST_SHARED_MEMORY_GIB, "/dev/shm"),
        ("output_gib", 0.0, "OUTPUT_DIR"),
    ):
        free = report[key]
        if free is None:
            reasons.append(f"cannot write to {what}")
        elif free < least:
            reasons.append(f"{free:.2f} GiB are free in {what}")
    if report["data"]:
        reasons.append(f"cannot read the data: {report['data']}")
    if report["port"]:
        reasons.append(f"ranks cannot meet: {report['port']}")
    return reasons


def _of_network(net: Mapping[str, Any] | None) -> list[str]:
    """A failed all-reduce is nobody's fault in particular, but a wrong clock or sum is."""
    if not net or "error" in net:
        return []
    reasons = []
    if not net["right"]:
        reasons.append("the all-reduce gave a wrong sum")
    if abs(net["clock_seconds"]) > MOST_CLOCK_SECONDS:
        reasons.append(f"the clock is {net['clock_seconds']:+.1f} s off")
    return reasons


def table(verdict: Verdict) -> list[str]:
    """Lines for the screen."""
    width = max(len(host) for host in verdict.hosts)
    lines = []
    for host in verdict.hosts:
        report, net = verdict.reports.get(host), verdict.nets.get(host) or {}
        if host in verdict.bad:
            lines.append(f"{host:<{width}}  BAD  {verdict.bad[host]}")
            continue
        assert report is not None
        words = [f"Python {report['python']}"]
        words += [f"{name} {version}" for name, version in report["versions"].items()]
        words.append(f"{len(report['gpus'] or [])} GPUs")
        if "clock_seconds" in net:
            words.append(f"clock {net['clock_seconds']:+.2f} s")
        words.append(f"scratch {report['scratch_gib']:.0f} GiB")
        words.append(f"output {report['output_gib']:.0f} GiB")
        lines.append(f"{host:<{width}}  ok   {', '.join(words)}")
        if host in verdict.remarks:
            lines.append(f"{'':<{width}}       note: {verdict.remarks[host]}")
    if verdict.slowest is not None:
        lines.append(f"all-reduce over {len(verdict.hosts)} hosts: {verdict.slowest:.2f} GB/s")
    errors = [net["error"] for net in verdict.nets.values() if "error" in net]
    if errors:
        lines.append(f"the all-reduce failed: {errors[0]}")
    return lines
