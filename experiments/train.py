"""One run in Hydra's own form: `python -m experiments.train model=ressformer task=chain seed=0`."""

from __future__ import annotations

from experiments.commands.train import entry
from experiments.errors import main

if __name__ == "__main__":
    main(entry)
