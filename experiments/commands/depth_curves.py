"""The quality of trained models against the depth that they are run at.

python -m experiments depth-curves table=iterations
python -m experiments depth-curves table=quick 'trainer.eval_depths=[1,2,4,8]'
"""

from __future__ import annotations

from experiments.studies.depth_curves import depth_curves as run

__all__ = ["run"]
