"""The console command `dmft`."""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code: 0 done, 1 the run failed, 2 bad usage, 130 interrupted.

    Args:
        arguments: without the program's name. None: those of the process, which is then taken as the program's own.
    """

    def run() -> int:
        from compare.cli.commands import run_command

        return run_command(arguments)

    if arguments is None:
        from compare.cli.process import run_as_process

        return run_as_process(run)
    try:
        return run()
    except KeyboardInterrupt:
        return 130
