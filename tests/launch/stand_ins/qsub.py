"""Stand-ins for qsub and qstat of PBS and Cobalt, as strict as the sites.

qsub.py STATE pbs|cobalt|qstat OPTIONS…      STATE is a folder with site.json:
{"hosts": […], "enter": […], "queues": {NAME: [nodes, minutes]}, "env": {…}}

A job really runs, in the background, after the jobs that it waits for and as long as there is no
STATE/hold; `enter` is the command that leads to the first host. Unknown options, and what the site
would refuse, end with status 1 and a line as the site's.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

PBS_OPTIONS = {"-A", "-q", "-N", "-j", "-r", "-l", "-k", "-W", "-o", "-e"}
COBALT_OPTIONS = {"-A", "-q", "-n", "-t", "--mode", "--attrs", "--dependencies", "-O"}


def refuse(text: str) -> NoReturn:
    print(f"qsub: {text}", file=sys.stderr)
    sys.exit(1)


def options(words: list[str], known: set[str]) -> tuple[list[tuple[str, str]], str]:
    """Pairs of option and value, and the script."""
    found = []
    while words and words[0].startswith("-"):
        if words[0] not in known:
            refuse(f"invalid option {words[0]}")
        if len(words) < 2:
            refuse(f"option {words[0]} needs a value")
        found.append((words[0], words[1]))
        words = words[2:]
    if len(words) != 1 or not Path(words[0]).is_file():
        refuse(f"script file:: No such file or directory: {words}")
    return found, words[0]


def minutes(text: str) -> float:
    if not re.fullmatch(r"\d+:\d\d:\d\d", text):
        refuse(f"Illegal attribute or resource value Resource_List.walltime: {text}")
    hours, mins, seconds = (int(part) for part in text.split(":"))
    return hours * 60 + mins + seconds / 60


def parse_pbs(words: list[str]) -> dict[str, Any]:
    pairs, script = options(words, PBS_OPTIONS)
    resources = dict(value.split("=", 1) for name, value in pairs if name == "-l")
    if extra := resources.keys() - {"select", "walltime", "filesystems", "place"}:
        refuse(f"Unknown resource: {sorted(extra)}")
    plain = {name: value for name, value in pairs if name not in ("-l", "-W")}
    attributes = dict(value.partition("=")[::2] for name, value in pairs if name == "-W")
    for what in ("walltime", "filesystems", "select"):
        if what not in resources:
            refuse(f"{what} must be specified")
    if plain.get("-k", "doe") != "doe" or plain.get("-j", "oe") != "oe":
        refuse("illegal -k or -j")
    if plain.get("-r", "n") not in ("y", "n"):
        refuse("illegal -r value")
    depend = attributes.pop("depend", "afterany:")
    tolerated = attributes.pop("tolerate_node_failures", "none")
    if (
        attributes
        or not depend.startswith("afterany:")
        or tolerated not in ("all", "job_start", "none")
    ):
        refuse(f"illegal -W value {attributes or depend or tolerated}")
    return {
        "project": plain.get("-A"),
        "queue": plain.get("-q"),
        "nodes": int(resources["select"]),
        "minutes": minutes(resources["walltime"]),
        "after": depend.removeprefix("afterany:"),
        "script": script,
        "walltime": resources["walltime"],
    }


def parse_cobalt(words: list[str]) -> dict[str, Any]:
    pairs, script = options(words, COBALT_OPTIONS)
    plain = dict(pairs)
    if plain.get("--mode") != "script":
        refuse("--mode script is needed for scripts")
    if not os.access(script, os.X_OK):
        refuse(f"command {script} is not executable")
    if not plain.get("--attrs", "").startswith("filesystems="):
        refuse("filesystems must be specified")
    if not plain.get("-t", "").isdecimal() or int(plain["-t"]) < 5:
        refuse("-t: minutes from 5")
    return {
        "project": plain.get("-A"),
        "queue": plain.get("-q"),
        "nodes": int(plain.get("-n", "0")),
        "minutes": float(plain["-t"]),
        "after": plain.get("--dependencies", ""),
        "script": script,
        "walltime": plain["-t"],
    }


def check(job: dict[str, Any], site: dict[str, Any], state: Path) -> None:
    if not job["project"]:
        refuse("Project/Account is missing")
    if job["queue"] not in site["queues"]:
        refuse(f"Unknown queue {job['queue']}")
    nodes, most = site["queues"][job["queue"]]
    if not 0 < job["nodes"] <= nodes or job["minutes"] > most:
        refuse("Job violates queue and/or server resource limits")
    if job["after"] and not (state / f"{job['after']}.job").exists():
        refuse(f"unknown dependency {job['after']}")


def submit(state: Path, kind: str, words: list[str]) -> None:
    site = json.loads((state / "site.json").read_text())
    job = parse_pbs(words) if kind == "pbs" else parse_cobalt(words)
    check(job, site, state)
    number = 1000 + len(list(state.glob("*.job")))
    name = f"{number}.stand-in" if kind == "pbs" else str(number)
    job |= {"name": name, "kind": kind, "folder": os.getcwd(), "env": dict(os.environ)}
    (state / f"{name}.job").write_text(json.dumps(job))
    command = [sys.executable, __file__, str(state), "run", name]
    quiet = subprocess.DEVNULL
    subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    print(name)


def environment(job: dict[str, Any], hosts: list[str], state: Path) -> dict[str, str]:
    """What a job's shell has there: nothing of the submitting shell's."""
    nodes = state / f"{job['name']}.nodes"
    nodes.write_text("".join(f"{host}\n" for host in hosts[: job["nodes"]]))
    env = {"PATH": "/usr/bin:/bin", "HOME": job["env"].get("HOME", "/"), "LANG": "C.UTF-8"}
    if extra := os.environ.get("STAND_IN_PATH"):
        env["PATH"] = f"{extra}:{env['PATH']}"
    if job["kind"] == "pbs":
        nodes.write_text(nodes.read_text() * 2)  # a line for every slot
        names = {"PBS_NODEFILE": str(nodes), "PBS_JOBID": job["name"], "PBS_QUEUE": job["queue"]}
        return env | names | {"PBS_O_WORKDIR": job["folder"], "PBS_O_HOST": "login"}
    names = {"COBALT_NODEFILE": str(nodes), "COBALT_JOBID": job["name"]}
    return env | names | {"COBALT_JOBSIZE": str(job["nodes"])}


def run(state: Path, name: str) -> None:
    """Run one job: wait for another's end, enforce the wall time, write down how it ended."""
    site = json.loads((state / "site.json").read_text())
    job = json.loads((state / f"{name}.job").read_text())
    while job["after"] and not (state / f"{job['after']}.end").exists():
        time.sleep(0.05)
    while (state / "hold").exists():
        time.sleep(0.05)
    (state / f"{name}.begin").write_text(str(time.time()))
    with open(f"{job['folder']}/longseq.o{name}", "w") as output:
        process = subprocess.Popen(
            [*site.get("enter", []), "/bin/bash", f"{job['folder']}/{job['script']}"],
            env=environment(job, site["hosts"], state) | site.get("env", {}),
            cwd=job["folder"] if job["kind"] == "cobalt" else "/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(job["minutes"] * 60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)
            time.sleep(5)
            os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
    (state / f"{name}.end").write_text(str(status))


def show(state: Path, words: list[str]) -> None:
    """qstat -f JOB…"""
    if len(words) < 2 or words[0] != "-f":
        refuse("qstat -f JOB is all there is")
    status = 0
    for name in words[1:]:
        if not (state / f"{name}.job").exists() or (state / f"{name}.end").exists():
            print(f"qstat: {name} Job has finished, use -x or -H", file=sys.stderr)
            status = 35
            continue
        job = json.loads((state / f"{name}.job").read_text())
        print(f"Job Id: {name}\n    Resource_List.walltime = {job['walltime']}")
        if (state / f"{name}.begin").exists():
            begin = float((state / f"{name}.begin").read_text())
            stamp = time.strftime("%a %b %d %H:%M:%S %Y", time.localtime(begin))
            print(f"    job_state = R\n    stime = {stamp}")
        elif job["after"]:
            print(f"    job_state = H\n    depend = afterany:{job['after']}@stand-in")
        else:
            print("    job_state = Q\n    comment = Not Running: Insufficient amount of\n\t nodes")
    sys.exit(status)


if __name__ == "__main__":
    folder, what, rest = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    if what == "run":
        run(folder, rest[0])
    elif what == "qstat":
        show(folder, rest)
    else:
        submit(folder, what, rest)
