"""What is known of all hosts, and how it is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from longseq.doctor.links import LEAST, Links, slowest_link
from longseq.reports.format import counted

Net = dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """What a run asks of its hosts. `transport`: libfabric or ib, "" for any; `least`: GB/s."""

    device: str
    per_host: int
    least: float = LEAST
    transport: str = ""


@dataclass
class Verdict:
    """Hosts in the order they were given.

    `bad` has reasons, `remarks` and `notes` what is worth knowing, `faults` what is wrong with no
    host in particular.
    """

    hosts: list[str]
    bad: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, list[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    nets: dict[str, list[Net]] = field(default_factory=dict)
    links: Links = field(default_factory=dict)

    @property
    def good(self) -> list[str]:
        return [host for host in self.hosts if host not in self.bad]

    @property
    def slowest(self) -> float | None:
        """GB/s of the all-reduce; None where there was none."""
        found = [net.get("gb_per_second") for nets in self.nets.values() for net in nets]
        whole = found and None not in found and len(self.nets) == len(self.hosts)
        return min(rate for rate in found if rate is not None) if whole else None

    @property
    def fit(self) -> bool:
        return self.slowest is not None and not self.bad and not self.faults

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": self.fit,
            "hosts": {
                host: {
                    "ok": host not in self.bad,
                    "reason": self.bad.get(host, ""),
                    "remark": "; ".join(self.remarks.get(host, [])),
                    **self.reports.get(host, {}),
                    "network": self.nets.get(host),
                }
                for host in self.hosts
            },
            "faults": self.faults,
            "notes": self.notes,
            "links_gb_per_second": {" ".join(link): rate for link, rate in self.links.items()},
            "all_reduce_gb_per_second": self.slowest,
        }


def table(verdict: Verdict) -> list[str]:
    """Lines for the screen."""
    width = max(len(host) for host in verdict.hosts)
    lines = []
    for host in verdict.hosts:
        if host in verdict.bad:
            lines.append(f"{host:<{width}}  BAD  {verdict.bad[host]}")
        else:
            lines.append(
                f"{host:<{width}}  ok   {_words(verdict.reports[host], verdict.nets.get(host, []))}"
            )
        lines += [f"{'':<{width}}       note: {remark}" for remark in verdict.remarks.get(host, [])]
    lines += [f"note: {note}" for note in verdict.notes]
    if verdict.slowest is not None and sum(map(len, verdict.nets.values())) > 1:
        line = f"all-reduce over {counted(len(verdict.hosts), 'host')}: {verdict.slowest:.3g} GB/s"
        if verdict.links:
            line += (
                f"; of {counted(len(verdict.links), 'pair')} the slowest is"
                f" {slowest_link(verdict.links)}"
            )
        transports = {
            n["transport"] for nets in verdict.nets.values() for n in nets if n.get("transport")
        }
        lines.append(line + (f"; over {', '.join(sorted(transports))}" if transports else ""))
    return lines + verdict.faults


def _words(report: Mapping[str, Any], nets: Sequence[Net]) -> str:
    words = [f"Python {report['python']}"]
    words += [f"{name} {version}" for name, version in report["versions"].items()]
    words.append(counted(len(report["gpus"] or []), "GPU"))
    if nets and "clock_seconds" in nets[0]:
        words.append(f"clock {nets[0]['clock_seconds']:+.2f} s")
    if nets and nets[0].get("interface"):
        words.append(f"over {nets[0]['interface']}")
    words.append(f"scratch {report['scratch_gib']:.0f} GiB")
    words.append(f"output {report['output_gib']:.0f} GiB")
    return ", ".join(words)
