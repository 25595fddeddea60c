"""`python -m tapegrad bench | demo | doctor | warmup`."""

import argparse

from tapegrad import __version__
from tapegrad.cli import bench, demo, doctor, warmup


def main() -> int:
    """Run the command named on the command line and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tapegrad", description="Automatic differentiation on a flat tape.")
    parser.add_argument("--version", action="version", version=f"tapegrad {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="command")
    for module in (bench, demo, doctor, warmup):
        name = module.__name__.rpartition(".")[2]
        summary = (module.__doc__ or "").partition("\n")[0]
        commands.add_parser(name, help=summary, description=summary).set_defaults(run=module.main)
    arguments = parser.parse_args()
    if not hasattr(arguments, "run"):
        parser.print_help()
        return 0
    status: int = arguments.run()
    return status


if __name__ == "__main__":
    raise SystemExit(main())
