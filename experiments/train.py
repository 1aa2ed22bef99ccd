"""One run in Hydra's own form: `python -m experiments.train model=ressformer task=chain seed=0`."""

from __future__ import annotations

import sys

from experiments.start import start


def body() -> int:
    """Hydra's main on one run; the page of help is that of `python -m experiments train`."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        from experiments.__main__ import program  # nothing of ours is loaded before `start` has looked where it lies

        return program(["train", "--help"])
    from experiments.studies.one_run import entry  # as above

    return entry()


if __name__ == "__main__":
    start(body)
