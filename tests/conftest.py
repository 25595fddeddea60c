"""What pytest has collected, and what earlier files left, lives to the end: garbage is looked for without it.

On several processors, what compiles jitted functions is run in two of the processes, in one the tests of NumPy's
functions, in the other those of the language: what NumPy's functions become is compiled once in a process, and takes
longer than most tests. They are begun first, since they take longest; then comes what has many tests, or starts
processes, so that what is left at the end is short.
"""

import collections
import gc
from pathlib import PurePath
from typing import Any

import pytest

# After test_jitted_: what compiles much of NumPy.
FUNCTIONS = ("complex", "decompositions", "faithful", "float32", "kinks", "numpy", "special", "statistics")
collect_ignore = ["tutorials"]  # programs that import PyTorch: test_tutorials.py runs them


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def earlier_files_are_no_garbage() -> None:
    """A search through all that a compiler keeps takes a second; what they have dropped goes before."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=["native", "python"])
def way(request: pytest.FixtureRequest) -> Any:
    """Each of the two ways to record."""
    from tapegrad import recorder

    if request.param == "python":
        recorder.uninstall()
    elif not recorder.install():
        pytest.skip("there is no native code without the JIT")
    return request.param


@pytest.fixture
def n_threads() -> Any:
    """Set how many threads there are."""
    import tapegrad as tg

    before = tg.get_num_threads()
    yield tg.set_num_threads
    tg.set_num_threads(before)


def file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def weight(item: pytest.Item) -> int:
    """How many tests one counts for, where a file's time is foreseen."""
    starts_processes = hasattr(getattr(item, "module", None), "subprocess")
    return 10 if starts_processes else 1


def is_jitted(nodeid: str) -> bool:
    file = file_of(nodeid)
    return PurePath(file).name.startswith(("test_jitted", "test_engines")) or file.startswith("tapegrad/jitted/")


def is_of_functions(nodeid: str) -> bool:
    """Whether what a jitted test compiles is NumPy's functions, for the most part."""
    name = PurePath(file_of(nodeid)).stem
    return name.startswith("test_engines") or name.removeprefix("test_jitted_") in FUNCTIONS


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Files go to processes in the order in which these have collected them."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = file_of(nodeid)
            return f"jitted {is_of_functions(nodeid)}" if is_jitted(nodeid) else file

    config.option.loadscopereorder = False
    return Scheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        sizes = collections.Counter[str]()
        for item in items:
            sizes[file_of(item.nodeid)] += weight(item)
        items.sort(
            key=lambda item: (
                not is_jitted(item.nodeid),
                not is_of_functions(item.nodeid),
                -sizes[file_of(item.nodeid)],
            )
        )
