"""Record once, replay: `tapegrad.compile`.

    watch      notes what a function records, sweeps and looks at, and writes a program of it
    standins   what stands for arrays and numbers meanwhile
    handed     gives the caller's lists and dictionaries what was done to those with stand-ins
    chance     looks for generators of random numbers, and for clocks
    text       the text of a program while it is written
    passes     makes its steps fewer (`core/passes.py`)
    program    keeps it, and runs it
    entry      tells native code of the programs that it may run without Python (`core/calling.py`)
    compiled   chooses a program by the arguments and by what Python code would see; records where there is none
    lowered    writes a program anew for lanes, which `batches` gives rows of arguments to (`core/in_lanes.py`)
    lane_code  makes machine code of runs of its steps; `places` are words for where elements are
    saved      writes programs to files, and `loaded` reads them, when `validation` has looked at all that they do
    serving    makes functions for jitted code, and for C's, of programs (`core/serving.py`)

A program is run by `core/replaying.py`.
"""

from tapegrad.replay.compiled import Compiled, compile

__all__ = ["Compiled", "compile"]
