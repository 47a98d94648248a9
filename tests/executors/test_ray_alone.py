"""The cluster that `--on ray` begins where there is none is not open to the network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from libraries import needs

pytestmark = [
    needs("ray"),
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="sockets are looked up in /proc"),
]
BEGIN = """
import json, os, sys, time
from pathlib import Path
from gradscape.executors.ray import Ray

def work(job, report):
    return 2 * job

def descendants(pid):
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield child
        yield from descendants(child)

def sockets(pid):
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        try:
            yield os.readlink(handle)
        except OSError:
            pass

with Ray(work, "ray") as executor:
    assert executor.submit("a", 21).result(timeout=120) == 42
    held = {name for pid in [os.getpid(), *descendants(os.getpid())] for name in sockets(pid)}
    lines = [line.split() for table in ("tcp", "tcp6") for line in open(f"/proc/net/{table}")]
    found = {line[1].split(":")[0] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in held}
    print(json.dumps({"listening": sorted(found), "mode": os.environ["RAY_AUTH_MODE"]}))  # as Ray has set it
"""
LOOPBACK = ("0100007F", "0000000000000000FFFF00000100007F")  # 127.0.0.1, of IPv4 and within IPv6


def test_a_cluster_of_ones_own_listens_on_the_loopback_alone_and_asks_for_a_token(tmp_path: Path) -> None:
    place = tempfile.mkdtemp(prefix="ray")  # short: Ray puts sockets there
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    environment |= {
        "RAY_TMPDIR": place,
        "HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    try:
        done = subprocess.run(
            [sys.executable, "-c", BEGIN], env=environment, capture_output=True, text=True, timeout=300
        )
    finally:
        shutil.rmtree(place, ignore_errors=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["listening"]
    assert set(found["listening"]) <= set(LOOPBACK)
    assert found["mode"] == "token"
