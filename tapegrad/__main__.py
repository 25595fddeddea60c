"""`python -m tapegrad bench | demo | doctor | warmup`."""

import argparse

from tapegrad.cli import bench, demo, doctor, warmup


def main() -> int:
    """Run the command named on the command line and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tapegrad", description="Automatic differentiation on a flat tape.")
    commands = parser.add_subparsers(title="commands", metavar="command", required=True)
    for module in (bench, demo, doctor, warmup):
        name = module.__name__.rpartition(".")[2]
        summary = (module.__doc__ or "").partition("\n")[0]
        commands.add_parser(name, help=summary, description=summary).set_defaults(run=module.main)
    run = parser.parse_args().run
    status: int = run()
    return status


if __name__ == "__main__":
    raise SystemExit(main())
