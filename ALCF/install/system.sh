# shellcheck shell=bash
# Sourced by install.sh: what the machine must have before anything is made.

package_command() { # package_command COMPILER HEADERS VENV (1 if missing): the one command for them
    local sudo='sudo ' names=()
    ((EUID != 0)) || sudo=
    if command -v apt-get >/dev/null; then
        (($1)) && names+=(g++)
        (($2)) && names+=("python${LONGSEQ_PYTHON_VERSION%.*}-dev")
        (($3)) && names+=("python${LONGSEQ_PYTHON_VERSION%.*}-venv")
        printf '%sapt-get install -y %s' "$sudo" "${names[*]}"
    elif command -v zypper >/dev/null; then
        (($1)) && names+=(gcc-c++)
        (($2 + $3)) && names+=(python3-devel)
        printf '%szypper install -y %s' "$sudo" "${names[*]}"
    else
        (($1)) && names+=(gcc-c++)
        (($2 + $3)) && names+=(python3-devel)
        printf '%sdnf install -y %s' "$sudo" "${names[*]}"
    fi
}

check_machine() { # before anything is made: folder, compiler, Python's own parts, room
    local compiler=0 headers=0 venv=0 room
    case $LONGSEQ_ROOT in
        *:* | *$'\n'*)
            longseq_refuse "the folder $LONGSEQ_ROOT has a colon or a line break in its name, which Python's\
 environments cannot live with: move the repository" || return
            ;;
    esac
    mkdir -p -- "${LONGSEQ_VENV%/*}" 2>/dev/null && [[ -w ${LONGSEQ_VENV%/*} ]] ||
        longseq_refuse "cannot write ${LONGSEQ_VENV%/*}, where the environment goes" || return
    command -v "${CXX:-g++}" >/dev/null || compiler=1
    read -r headers venv < <("$LONGSEQ_BASE_PYTHON" -c '
import importlib.util as u, os, sysconfig
print(int(not os.path.exists(sysconfig.get_path("include") + "/Python.h")),
      int(not (u.find_spec("ensurepip") and u.find_spec("venv"))))')
    if ((compiler + headers + venv)); then
        longseq_refuse "system packages are missing. This installs them: $(package_command "$compiler" \
            "$headers" "$venv")" || return
    fi
    room=$(df -Pk -- "${LONGSEQ_VENV%/*}" | awk 'NR == 2 { print int($4 / 1048576) }')
    ((room >= 4)) ||
        longseq_say "note: $room GiB are free in ${LONGSEQ_VENV%/*}; an environment takes 2 (CPU) to 9 (GPU)"
}
