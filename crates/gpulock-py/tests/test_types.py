"""The border between the two halves is what its stub says."""

import subprocess
import sys


def test_the_stub_of_the_native_half_tells_the_truth() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "gpulock._gpulock"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
