"""A job that saves, without torch: what each rank sees goes to seen/, what it does is in DO.

DO is one plan for each attempt, with `;` between them (the last one holds for all that follow); a
plan is a row of words:

    save=N      rank 0 saves a whole step N
    torn=N      rank 0 saves half of step N
    step=N      rank 0 writes down that step N is reached
    exit=N      rank 1 (rank 0 where it is alone) ends with N, after rank 0 has done its part
    kill        the same with SIGKILL
    raise       the same with an exception
    import      the same with a module that is missing
    gate        every rank waits until seen/go is there
    sick        the tree `sick` takes the place of `plain`
    helper      rank 0 starts a process that is deaf to TERM
    wait        every rank waits for a signal; ON says what happens then
    wait0       the same for rank 0 alone
"""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile

rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
attempt = int(os.environ["NVLAUNCH_ATTEMPT"])
folder = os.environ.get("SAVES", "ckpt")
began = time.monotonic()


def save(step, whole=True):
    part = f"{folder}/.part"
    with zipfile.ZipFile(part, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
        file.writestr("archive/byteorder", b"little")
        file.writestr("archive/data/0", bytes(64))
        file.writestr("archive/version", b"3\n")
    if not whole:
        os.truncate(part, os.path.getsize(part) - 30)
    os.rename(part, f"{folder}/step_{step}.pt")


def see():
    names = ["NVLAUNCH_RESUME_FROM", "NVLAUNCH_RESUME_STEP"]
    seen = {
        "args": sys.argv[1:],
        "env": {name: os.environ[name] for name in names if name in os.environ},
        "began": began,
    }
    os.makedirs("seen", exist_ok=True)
    with open(f"seen/{attempt}-{rank}.part", "w") as file:
        json.dump(seen, file)
    os.rename(f"seen/{attempt}-{rank}.part", f"seen/{attempt}-{rank}.json")


def await_file(name):
    while not os.path.exists(name):
        time.sleep(0.002)


def asked(number, _frame):
    """ON: how long a save takes, its step, and what follows: `3:40:exit` or `0:40:stay`.

    `gate` for a time is until seen/go is there.
    """
    print(f"got {signal.Signals(number).name}", flush=True)
    takes, step, then = os.environ["ON"].split(":")
    if rank == 0 and step and takes == "gate":
        await_file("seen/go")
    elif rank == 0 and step:
        end = time.monotonic() + float(takes)
        while time.monotonic() < end:
            time.sleep(0.01)
    if rank == 0 and step:
        save(int(step))
        print(f"saved {step}", flush=True)
    if then == "exit":
        os._exit(0)


see()
plans = os.environ.get("DO", "").split(";")
plan = plans[min(attempt, len(plans) - 1)].split()
if "helper" in plan and rank == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(["sleep", "600"])
if "wait" in plan or ("wait0" in plan and rank == 0):
    for number in [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]:
        signal.signal(number, asked)
done = f"seen/{attempt}-done"
for word in plan:
    what, _, value = word.partition("=")
    if what in ("save", "torn"):
        if rank == 0:
            save(int(value), what == "save")
    elif what == "step":
        if rank == 0:
            with open(os.environ["NVLAUNCH_PROGRESS_FILE"], "w") as file:
                file.write(value)
    elif what == "gate":
        await_file("seen/go")
    elif what == "sick":
        if rank == 0:
            os.rename("plain", "was")
            os.rename("sick", "plain")
    elif what == "helper":
        pass
    elif what in ("wait", "wait0"):
        print(f"rank {rank} waits", flush=True)
        while what == "wait" or rank == 0:
            time.sleep(0.05)
    else:
        if rank == 0:
            open(done, "w").close()
        await_file(done)
        if rank != world - 1 and word != "exit=0":
            # Until nvlaunch ends it.
            await_file("seen/never")
        if what == "exit":
            sys.exit(int(value))
        elif what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif what == "raise":
            raise ValueError("boom")
        elif what == "import":
            import no_such_module  # noqa: F401
