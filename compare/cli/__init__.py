"""The console command `dmft`."""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; see `compare.cli.commands.main`."""
    from compare.cli.commands import main as run

    return run(arguments)
