"""Whether `trainer.compile=true` can be kept on this machine; asked before anything is planned."""

from __future__ import annotations

import functools

from experiments.errors import UserError, one_line


@functools.cache
def require_compiler(accelerator: str) -> None:
    """What torch.compile needs for a run on `accelerator`: for a CPU, the C++ compiler that torch would take.

    Raises:
        UserError: there is none.
    """
    import torch  # 2 s, and only where something is to be compiled
    from torch._inductor.cpp_builder import get_cpp_compiler

    if accelerator != "cpu" and torch.cuda.is_available():
        return
    try:
        get_cpp_compiler()
    except Exception as error:
        raise UserError(
            f"trainer.compile=true needs a C++ compiler, and none works here ({one_line(str(error))[:200]}); install "
            "one (g++), name it (CXX=...), or leave trainer.compile=false"
        ) from None
