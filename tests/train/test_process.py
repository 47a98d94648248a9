"""The process: denormals flushed in every thread, memory kept and returned."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest


def in_a_process(program: str) -> str:
    """What a fresh process prints: threads and their modes cannot be put back in this one."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_denormals_are_flushed_in_every_thread() -> None:
    """A square of 1e-20 is 1e-40, which float32 has only as a denormal; a million go to all threads."""
    left = in_a_process("""
        import torch
        from gradscape.train.process import prepare_process
        prepare_process(threads=4)
        print((torch.full((1_000_000,), 1e-20).square() != 0).sum().item())
        torch.set_flush_denormal(False)  # of this thread alone, which shows that the others had theirs
        print((torch.full((1_000_000,), 1e-20).square() != 0).sum().item())
    """)
    with_flush, without_here = map(int, left.split())
    assert with_flush == 0
    assert 0 < without_here < 1_000_000


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and needs glibc")
def test_memory_is_kept_until_it_is_returned() -> None:
    sizes = in_a_process("""
        import torch
        from gradscape.train.process import prepare_process, return_memory

        def resident():
            status = open("/proc/self/status").read().split("VmRSS:")[1]
            return int(status.split()[0]) * 1024

        prepare_process(threads=1)
        before = resident()
        taken = [torch.ones(2_000_000) for _ in range(40)]  # 320 MB
        del taken
        print(resident() - before)
        return_memory()
        print(resident() - before)
    """)
    kept, left = map(int, sizes.split())
    assert kept > 300e6
    assert left < 30e6


@pytest.mark.slow
def test_the_time_of_a_vanishing_step_with_and_without_denormals() -> None:
    """Adam on gradients of 1e-20, whose squares are denormal; printed with -s, and never slower flushed.

    How much it costs is the processor's matter: little on recent ones of AMD, a hundred times on many others.
    """
    times = in_a_process("""
        import time
        import torch
        torch.set_num_threads(1)
        for flush in (True, False):
            torch.set_flush_denormal(flush)
            weight = torch.nn.Parameter(torch.ones(300_000))
            adam = torch.optim.Adam([weight], fused=True)
            weight.grad = torch.full_like(weight, 1e-20)
            seconds = []
            for _ in range(60):
                start = time.perf_counter()
                adam.step()
                seconds.append(time.perf_counter() - start)
            square = adam.state[weight]["exp_avg_sq"].max().item()
            print(sorted(seconds)[15], int(square > 0))
    """)
    (flushed, none_left), (denormal, some_left) = (map(float, line.split()) for line in times.splitlines())
    print(f"Adam's step on vanishing gradients: {1e3 * flushed:.3f} ms flushed, {1e3 * denormal:.3f} ms not")
    assert (none_left, some_left) == (0, 1)
    assert flushed < 1.5 * denormal
