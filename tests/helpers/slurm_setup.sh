#!/usr/bin/env bash
# Debian's SLURM, which tests/slow/test_slurm.py and others start for themselves: of this machine alone, and as whoever
# tests. Where it cannot be installed that is said, and tests that need it say that they did not run; .ci/run lets
# them fail.
cd "$(dirname "$0")"
. ./packages.sh

PATH=$PATH:/usr/sbin:/sbin
programs() {
    for program in munged slurmctld slurmd sbatch; do command -v $program > /dev/null || return 1; done
}

programs || install_packages --no-install-recommends slurmctld slurmd slurm-client munge
programs || echo "NOT INSTALLED: slurmctld slurmd slurm-client munge (as root: apt-get install them)" >&2
exit 0
