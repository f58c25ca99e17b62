"""`python -m bench.pages`; see the package."""

from __future__ import annotations

import argparse
import sys

from bench import pages


def main() -> None:
    """Write the pages' figures, or say which are not the results'."""
    parser = argparse.ArgumentParser(prog="python -m bench.pages", description=(pages.__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; end with an error where a page differs")
    if parser.parse_args().check:
        wrong = ", ".join(map(str, pages.outdated()))
        sys.exit(f"figures that are not those of bench/results: {wrong}; python -m bench.pages" if wrong else 0)
    for page in pages.write():
        print(f"wrote {page}")


if __name__ == "__main__":
    main()
