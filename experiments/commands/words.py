"""The words of a command line apart: options that begin with a dash, and the rest."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.errors import UserError, unknown


def split_options(verb: str, arguments: Sequence[str], known: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words that are no options, and the options.

    Raises:
        UserError: an option that the verb does not have.
    """
    options = [word for word in arguments if word.startswith("-")]
    for option in options:
        if option.partition("=")[0] not in known:
            raise UserError(unknown(f"option of {verb}", option, list(known)))
    return [word for word in arguments if word not in options], options
