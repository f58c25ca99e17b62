"""What a zygote's forks run in the tests: tell what this process is like, or end as the first argument says."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

import numpy as np
from ray import UniqueID

if "--abort" in sys.argv:
    os.abort()
told = {
    "pid": os.getpid(),
    "parent": os.getppid(),
    "group": os.getpgid(0),
    "arguments": sys.argv[1:],
    "folder": os.getcwd(),
    "job": os.environ.get("RAY_JOB_ID"),
    "raylet": os.environ.get("RAY_RAYLET_PID"),
    "modules": sorted(name for name in sys.modules if name in ("ray.serve", "tests.support.slow_import")),
    "drawn": float(np.random.rand()),
    "id": UniqueID.from_random().hex(),
    "is_main": __name__ == "__main__",
    "open": len(os.listdir("/proc/self/fd")),
}
print(json.dumps(told), flush=True)
if "--stay" in sys.argv:
    os.close(1)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
