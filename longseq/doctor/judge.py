"""From what the hosts said to who is fit: every bad host by name, with the reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from longseq.doctor.gpus import IDLE_GIB, unsaid
from longseq.doctor.links import LEAST, rates, slow_hosts, slowest_link
from longseq.doctor.verdict import Net, Verdict, Wanted
from longseq.errors import UserError
from longseq.host.affinity import Place, complaints

LEAST_SCRATCH_GIB = 1.0
LEAST_SHARED_MEMORY_GIB = 0.5
LEAST_OUTPUT_GIB = 5.0
MOST_CLOCK_SECONDS = 5.0
LEAST_LOCKED = 2**26  # bytes, for network cards to register; the kernel's own 8 MiB are too few
FILES = (256, 2)  # open files of a rank: its own, and for each other rank
THREADS = 128  # of a rank


def read(folder: Path, pattern: str) -> list[tuple[str, dict[str, Any]]]:
    """Files of the probe: (what stands for the star, content)."""
    found = []
    for path in sorted(folder.glob(pattern)):
        found.append((path.stem.split("-", 1)[1], json.loads(path.read_text())))
    return found


def _by_host(
    hosts: Sequence[str], files: list[tuple[str, dict[str, Any]]], per_host: int
) -> dict[str, list[dict[str, Any]]]:
    """Assign each file to one of `hosts`: by the name asked for, its own name, else its rank."""
    short = {host.split(".")[0]: host for host in hosts}
    found: dict[str, list[dict[str, Any]]] = {}
    for name, content in files:
        own = content.get("expected") or content["host"]
        host = own if own in hosts else short.get(own.split(".")[0])
        if host is None and name.isdecimal() and int(name) // per_host < len(hosts):
            host = hosts[int(name) // per_host]
        if host is not None:
            found.setdefault(host, []).append(content)
    return found


def judge(folder: Path, hosts: Sequence[str], wanted: Wanted) -> Verdict:
    """Read a folder of the probe's files; raises UserError where the environment is at fault."""
    verdict = Verdict(list(hosts))
    ranks = wanted.per_host if wanted.device == "cuda" else 1  # of the probe, on a host
    reports = _by_host(hosts, read(folder, "report-*.json"), ranks)
    verdict.reports = {host: found[0] for host, found in reports.items()}
    verdict.nets = _by_host(hosts, read(folder, "net-*.json"), ranks)
    _check_environment(verdict.nets)
    by_name = {nets[0]["host"]: nets for nets in verdict.nets.values()}
    listed = {nets[0]["host"]: host for host, nets in verdict.nets.items()}
    verdict.links = {
        (listed.get(a, a), listed.get(b, b)): rate for (a, b), rate in rates(by_name).items()
    }
    slow, fault = slow_hosts(hosts, verdict.links, wanted.least)
    usual = _usual(verdict.reports)
    for host in hosts:
        report = verdict.reports.get(host)
        if report is None:
            verdict.bad[host] = "does not answer"
            continue
        nets = verdict.nets.get(host, [])
        reasons = [*_of_software(report, usual), *_of_gpus(report, wanted)]
        reasons += [*_of_files(report), *_of_limits(report, wanted, len(hosts)), *_of_network(nets)]
        if verdict.nets and not nets:
            reasons.append(
                "answered, but did not come to the all-reduce in time: does it still import"
                " (PREFLIGHT_SECONDS)?"
            )
        if host in slow:
            reasons.append(slow[host])
        if reasons:
            verdict.bad[host] = "; ".join(reasons)
        verdict.remarks[host] = _remarks(report, usual, wanted)
    verdict.faults += [fault] if fault else []
    _of_transport(verdict, wanted)
    _of_sums(verdict, ranks)
    places = [
        Place(**net["place"]) for nets in verdict.nets.values() for net in nets if "place" in net
    ]
    verdict.notes += complaints(places)
    return verdict


def _check_environment(nets: Mapping[str, Sequence[Net]]) -> None:
    """What no host can import is no host's fault."""
    why = [net.get("cannot_import") for found in nets.values() for net in found]
    if why and all(why):
        raise UserError(
            f"torch cannot be imported on any host ({why[0]}): ./install.sh --recreate makes the"
            " environment anew"
        )


def _usual(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What most hosts have: "python", "versions", "driver", "limits"."""
    usual = {}
    for key in ("python", "versions", "driver", "limits"):
        texts = [json.dumps(_part(report, key)) for report in reports.values()]
        usual[key] = json.loads(Counter(texts).most_common(1)[0][0]) if texts else None
    return usual


def _part(report: Mapping[str, Any], key: str) -> Any:
    if key == "driver":
        return sorted({gpu["driver"] or "" for gpu in report["gpus"] or []})
    return report[key]


# ---------------------------------------------------------------- one host by itself


def _of_software(report: Mapping[str, Any], usual: Mapping[str, Any]) -> list[str]:
    reasons = []
    if report["python"] != usual["python"]:
        reasons.append(f"Python {report['python']}, the others {usual['python']}")
    for name in sorted(report["versions"].keys() | usual["versions"].keys()):
        mine, theirs = report["versions"].get(name), usual["versions"].get(name)
        if mine != theirs:
            reasons.append(f"{name} {mine or 'missing'}, the others {theirs or 'have none'}")
    return reasons


def _of_gpus(report: Mapping[str, Any], wanted: Wanted) -> list[str]:
    if wanted.device != "cuda":
        return []
    gpus = report["gpus"] or []
    if len(gpus) < wanted.per_host:
        return [f"{len(gpus)} GPU(s) in sight, {wanted.per_host} are needed"]
    reasons = []
    busy = [str(gpu["number"]) for gpu in gpus if gpu["taken_gib"] > IDLE_GIB]
    if busy:
        reasons.append(f"GPU {', '.join(busy)} is in use by another program")
    for gpu in gpus:
        n = gpu["number"]
        if gpu["ecc"]:
            reasons.append(
                f"GPU {n} has had {gpu['ecc']:.0f} memory error(s) that were not corrected"
            )
        if gpu["remap_failed"]:
            reasons.append(f"GPU {n} could not replace faulty rows of its memory")
        hard = [why for why in gpu["slowed"] or [] if why != "driver's heat limit"]
        if hard:
            reasons.append(f"GPU {n} is slowed down ({', '.join(hard)})")
    return reasons


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


def _of_limits(report: Mapping[str, Any], wanted: Wanted, hosts: int) -> list[str]:
    """What ulimit gives, beside what a host's ranks take."""
    reasons, limits = [], report["limits"]
    files = FILES[0] + FILES[1] * hosts * wanted.per_host
    if limits["nofile"] is not None and limits["nofile"] < files:
        reasons.append(f"{limits['nofile']:.0f} open files allowed, {files} are needed (ulimit -n)")
    threads = THREADS * wanted.per_host
    if limits["nproc"] is not None and limits["nproc"] < threads:
        reasons.append(f"{limits['nproc']:.0f} processes allowed, {threads} are needed (ulimit -u)")
    locked = limits["memlock"]
    if wanted.transport and hosts > 1 and locked is not None and locked < LEAST_LOCKED:
        least = LEAST_LOCKED >> 20
        reasons.append(f"{locked / 2**20:.0f} MiB may be locked, {least} are needed (ulimit -l)")
    return reasons


def _remarks(report: Mapping[str, Any], usual: Mapping[str, Any], wanted: Wanted) -> list[str]:
    """What makes no host bad."""
    remarks, gpus = [], report["gpus"] or []
    free, quota = report["output_gib"], report["output_quota_gib"]
    if quota is not None and quota < min(LEAST_OUTPUT_GIB, free or 0):
        remarks.append(f"the quota leaves {quota:.1f} GiB for the output")
    elif free is not None and free < LEAST_OUTPUT_GIB:
        remarks.append(f"{free:.1f} GiB are left for the output")
    different = [key for key, n in report["limits"].items() if n != usual["limits"][key]]
    if different:
        remarks.append(f"its ulimit is not that of the others: {', '.join(different)}")
    if wanted.device != "cuda":
        return remarks
    driver = _part(report, "driver")
    if driver != usual["driver"]:
        remarks.append(f"driver {' '.join(driver)}, the others {' '.join(usual['driver'])}")
    for gpu in gpus:
        n = gpu["number"]
        if gpu["remap_waits"]:
            remarks.append(f"GPU {n} waits for a reset to replace faulty rows of its memory")
        if "driver's heat limit" in (gpu["slowed"] or []):
            remarks.append(f"GPU {n} is slowed down by its driver's heat limit")
    if missing := unsaid(gpus):
        remarks.append(f"its driver does not say: {', '.join(missing)}")
    return remarks


# ---------------------------------------------------------------- all of them together


def _of_network(nets: Sequence[Net]) -> list[str]:
    """A failed all-reduce is nobody's fault in particular, but a wrong clock or sum is."""
    why = [net["cannot_import"] for net in nets if "cannot_import" in net]
    reasons = [f"cannot import torch: {why[0]}"] if why else []
    for net in nets:
        if net.get("right") is False and "the all-reduce gave a wrong sum" not in reasons:
            reasons.append("the all-reduce gave a wrong sum")
    clocks = [net["clock_seconds"] for net in nets if "clock_seconds" in net]
    if clocks and abs(clocks[0]) > MOST_CLOCK_SECONDS:
        reasons.append(f"the clock is {clocks[0]:+.1f} s off")
    return reasons


def kind_of(network: str) -> str:
    """libfabric, ib or tcp for a network's name in NCCL; of another, its name."""
    name = network.lower()
    if "libfabric" in name or name == "ofi":
        return "libfabric"
    if name.startswith(("ib", "ucx")):
        return "ib"
    return "tcp" if name == "socket" else name


def _of_transport(verdict: Verdict, wanted: Wanted) -> None:
    """GPUs that fell back to TCP, and CPUs that listen where nobody else is."""
    if len(verdict.hosts) == 1:
        return
    taken: dict[str, list[str]] = {}
    for host, nets in verdict.nets.items():
        if network := nets[0].get("transport"):
            taken.setdefault(network, []).append(host)
        if nets[0].get("interface") == "lo" and "error" in nets[0]:
            address = nets[0].get("address")
            why = f"its own name has the address {address}, where no other host finds it"
            _add(verdict, host, f"{why}: GLOO_SOCKET_IFNAME names the interface")
    for network, hosts in taken.items():
        kind, cards = kind_of(network), verdict.nets[hosts[0]][0].get("interface")
        name = f"{network} ({cards})" if cards else network
        wrong = f"NCCL took {name}, where the machine has {wanted.transport}"
        if wanted.transport and kind != wanted.transport:
            if len(hosts) == len(verdict.hosts):
                verdict.faults.append(
                    f"{wrong}: its plugin is missing or fails; SITE_NCCL=0 takes TCP all the same"
                )
            else:
                for host in hosts:
                    _add(verdict, host, wrong)
        elif kind == "tcp":
            verdict.notes.append(f"GPUs talk over TCP: {name}")


def _of_sums(verdict: Verdict, ranks: int) -> None:
    """Errors, ranks that have said nothing, and a slow path between hosts of which each is quick
    with others. ranks: of the probe, on a host; a lone host's must add up as well.
    """
    errors = [net for nets in verdict.nets.values() for net in nets if "error" in net]
    if errors:
        doing = dict.fromkeys(f"{net['host']} {net['doing']}" for net in errors if "doing" in net)
        where = f" ({', '.join(list(doing)[:4])})" if doing else ""
        verdict.faults.append(f"the all-reduce failed{where}: {errors[0]['error']}")
    late = "in time: do they still import (PREFLIGHT_SECONDS), or have they crashed?"
    if not verdict.nets and not verdict.bad:
        who = "all hosts" if len(verdict.hosts) > 1 else "the host"
        verdict.faults.append(f"{who} answered, and no rank came to the all-reduce {late}")
    some = [host for host, nets in verdict.nets.items() if len(nets) < ranks]
    if some and not errors and not verdict.bad:
        count = ranks - len(verdict.nets[some[0]])
        verdict.faults.append(
            f"{count} of {ranks} ranks on {some[0]} did not come to the all-reduce {late}"
        )
    named = verdict.faults or any("slow" in reason for reason in verdict.bad.values())
    if verdict.links and min(verdict.links.values()) < LEAST and not named:
        worst = slowest_link(verdict.links)
        verdict.faults.append(
            f"the path between {worst} is slow; each of them is quick with others"
        )


def _add(verdict: Verdict, host: str, reason: str) -> None:
    verdict.bad[host] = "; ".join(filter(None, [verdict.bad.get(host), reason]))
