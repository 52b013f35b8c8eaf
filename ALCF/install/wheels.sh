# shellcheck shell=bash
# Sourced by install.sh: a folder of wheels for another machine (--wheels).

needed_wheels() { # needed_wheels PYTHON NAME...: prints the pins of these and of all they need there, but torch's
    "$LONGSEQ_PYTHON" - "$LONGSEQ_VENV/constraints.txt" "$@" <<'PYTHON'
import sys
from importlib.metadata import requires
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

constraints, python, *wanted = sys.argv[1:]
target = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}

def acts(requirement):
    return requirement.marker is None or requirement.marker.evaluate(target)

with open(constraints, encoding="utf-8") as file:
    pins = [Requirement(line.strip()) for line in file if line.strip() and line[0] != "#"]
pins = {canonicalize_name(pin.name): pin for pin in pins if acts(pin)}
seen = {"torch"}  # that machine's own
while wanted:
    name = canonicalize_name(wanted.pop())
    if name not in seen:
        seen.add(name)
        print(name + str(pins[name].specifier))
        wanted += [found.name for found in map(Requirement, requires(name) or ()) if acts(found)]
PYTHON
}

fill_wheels() { # DeepSpeed's is made here, without compiled parts; all others are the package index's
    local aside=$LONGSEQ_VENV/tmp/wheels names others=() name minor platforms=()
    rm -rf -- "$aside"
    mkdir -p -- "$aside" "$wheels_out"
    names=$(needed_wheels "$wheels_python" deepspeed rich psutil safetensors jinja2 matplotlib dnaio)
    for name in $names; do
        [[ $name == deepspeed==* ]] || others+=("$name")
    done
    for minor in {17..34}; do platforms+=(--platform "manylinux_2_${minor}_$(uname -m)"); done
    run_pip download --no-deps --only-binary=:all: --python-version "$wheels_python" --implementation cp \
        "${platforms[@]}" -d "$aside" "${others[@]}"
    DS_BUILD_OPS=0 run_pip wheel --no-deps --no-build-isolation --no-cache-dir -w "$aside" \
        "deepspeed==$(pinned deepspeed)"
    mv -- "$aside"/*.whl "$wheels_out"
}
