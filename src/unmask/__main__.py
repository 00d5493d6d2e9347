"""The command line: `unmask`, and `python -m unmask`."""

import sys


def main() -> None:
    """Run the command line, and end quietly where it is interrupted while it is still being imported."""
    try:
        from unmask.cli.app import main as run
    except KeyboardInterrupt:
        sys.stderr.write("unmask: interrupted\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
