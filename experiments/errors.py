"""Errors that are the user's to mend: one clear line, exit code 2, no traceback."""


class UserError(Exception):
    """A mistake in the input. The message names the thing at fault and lists what would do."""


class NoData(UserError):
    """A data set that is not on this machine; a table may go on without it."""
