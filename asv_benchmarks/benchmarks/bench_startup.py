"""From a fresh interpreter to the first gradient. Every sample is a process of its own."""

import os
import subprocess
import sys
import tempfile

from .common import QUICK

FIRST_GRADIENT = """
import tapegrad as tg
x = tg.ones(3, requires_grad=True)
(x * x).sum().backward()
"""

# Runs in the sample's process, before its clock starts.
EMPTY_CACHE = """
import os, tempfile
folder = tempfile.TemporaryDirectory()
os.environ["TAPEGRAD_CACHE_DIR"] = folder.name
"""


def timeraw_import():
    """The import alone."""
    return "import tapegrad"


class Cold:
    """Kernels are compiled on the way."""

    repeat = 3
    rounds = 1

    def timeraw_first_gradient(self):
        return FIRST_GRADIENT, EMPTY_CACHE


class Cached:
    """Kernels are loaded from a folder that an earlier process has filled."""

    def setup(self):
        self.folder = tempfile.TemporaryDirectory()
        if not QUICK:  # then the user's own, which has the kernels
            os.environ["TAPEGRAD_CACHE_DIR"] = self.folder.name
        subprocess.run([sys.executable, "-c", FIRST_GRADIENT], check=True)

    def teardown(self):
        os.environ.pop("TAPEGRAD_CACHE_DIR", None)
        self.folder.cleanup()

    def timeraw_first_gradient(self):
        return FIRST_GRADIENT
