"""On CPUs a batch's memory serves the next batch, and is handed back at the end."""

import ctypes
import subprocess
import sys
import textwrap

import pytest

glibc = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")


@pytest.mark.slow
@pytest.mark.skipif(not glibc, reason="only glibc is asked to keep memory")
def test_large_tensors_get_the_same_pages_again_and_the_system_gets_them_back():
    # In a process of its own, whose heap holds nothing else.
    code = """
        import resource
        import torch
        from slicer_lite.base.device import keep_freed_blocks

        CPU = torch.device("cpu")
        torch.set_num_threads(1)

        def batches():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for _ in range(4):
                torch.ones(16, 2**20)  # 64 MiB
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

        def held():
            return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20  # MiB

        batches()
        before, plain = held(), batches()
        with keep_freed_blocks(CPU):
            for _ in range(3):  # until blocks of that size fit, which hangs on what the heap held before
                batches()
            with keep_freed_blocks(CPU):
                pass
            kept, peak = batches(), held()
        print(plain, kept, peak - before, held() - before, batches())
    """
    run = [sys.executable, "-c", textwrap.dedent(code)]
    out = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    plain, kept, more_within, more_after, plain_again = map(float, out.split())
    assert kept < plain / 20  # pages that the system had to give
    assert plain_again > plain / 5  # those that it got back it gives anew
    assert more_within > 60 and more_after < 5
