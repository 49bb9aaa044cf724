#!/usr/bin/env bash
# A Slurm prolog that proves before a job that the node can train, and drains it where it cannot.
#
# In slurm.conf, on nodes that a job has for itself:
#
#     Prolog=/etc/slurm/prolog.d/smoke.sh
#     PrologFlags=Alloc
#
# PrologEpilogTimeout, where it is set, has to be longer than the limits below added up. A prolog that
# ends with another code than 0 makes Slurm drain the node and put the job back into the queue, so:
#
#     exit 0   the node may run the job: all is right, or nothing can be said of the node
#     exit 1   the node is drained; the reason names the rank and the step
set -uo pipefail

# Slurm starts a prolog without PATH; bash has one of its own then, and hands it on only if it is told to.
export PATH=${PATH:-/usr/local/bin:/usr/bin:/bin}

# Seconds for the test, and for the whole of it where even nvlaunch does not come back.
seconds=60
outer=90
# Seconds for one process alone to import PyTorch, which can be slow from a shared file system.
import=120

# An interpreter with PyTorch, as jobs here use it; a name on PATH or a path.
python=${SMOKE_PYTHON:-python3}

# A mistake in this script must not drain a cluster: without the tools nothing can be said.
for tool in nvlaunch "$python" timeout; do
    if ! command -v "$tool" >/dev/null; then
        echo "smoke test: $tool is not here; the node was not tested" >&2
        exit 0
    fi
done
nvlaunch=$(command -v nvlaunch)
python=$(command -v "$python")

# An interpreter without PyTorch says nothing of the node. After this its files are in memory as well,
# so that the ranks do not wait for a shared file system.
if ! timeout --kill-after=10 "$import" "$python" -c 'import torch' >/dev/null; then
    echo "smoke test: $python cannot import torch, or not in $import s; the node was not tested" >&2
    exit 0
fi

# The GPUs of this job alone: others of the node may be at work for somebody else.
if [[ -n ${SLURM_JOB_GPUS:-} ]]; then
    export CUDA_VISIBLE_DEVICES=$SLURM_JOB_GPUS
fi

code=0
said=$(timeout --kill-after=10 "$outer" \
    "$nvlaunch" smoke --python "$python" --timeout "${seconds}s" 2>&1 >/dev/null) || code=$?

case $code in
    0) exit 0 ;;
    # A check failed; preflight refuses the machine; the system refused; a process cannot be ended; and
    # nvlaunch itself did not come back in time.
    1 | 69 | 71 | 74 | 124 | 137) ;;
    # A mistake in a profile or on the command line, or somebody ended the test.
    *)
        echo "smoke test: ended with $code; the node was not tested: $said" >&2
        exit 0
        ;;
esac

# The first line that names a cause; what Slurm keeps as a reason is short.
reason=$(grep -m 1 -E 'smoke test failed|preflight refuses' <<<"$said" || true)
reason=${reason#nvlaunch: }
# A slow file system or a mistake in an environment; the node is not to blame for what comes before
# a device is used.
if ((code == 1)) && grep -q -E '`import`|before its program began' <<<"$reason"; then
    echo "smoke test: PyTorch was not imported; the node was not tested: $said" >&2
    exit 0
fi
reason="nvlaunch smoke: ${reason:-ended with $code}"
echo "$said" >&2

# Slurm drains the node for this prolog's exit code in any case, with a reason of its own. Its commands
# are a load on the controller; this one runs only where a node has failed.
if command -v scontrol >/dev/null && [[ -n ${SLURMD_NODENAME:-} ]]; then
    scontrol update "nodename=$SLURMD_NODENAME" state=drain "reason=${reason:0:200}" || true
fi
exit 1
