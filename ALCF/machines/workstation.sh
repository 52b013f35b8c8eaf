# shellcheck shell=bash
# shellcheck disable=SC2034 # machine.sh and those after it read the facts
# A workstation or laptop: no scheduler, no modules. The profile of last resort. With HOSTFILE it is
# several of them, reached by the launcher over ssh.

longseq_profile_recognise() { # every machine that no other profile knows
    LONGSEQ_NODE=compute
}

longseq_profile_facts() {
    :
}

longseq_profile_modules() {
    :
}
