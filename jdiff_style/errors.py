"""Errors that are the user's to fix, and how a command reports them."""


class UserError(Exception):
    """Bad input: one clear sentence that names the field or file, the bad value and the way out.

    The command line prints the sentence without a traceback and exits with `exit_code`.
    """

    exit_code = 1


class Interrupted(UserError):
    """Stopped by Ctrl-C after everything worth keeping was saved; exits with 130 as shells expect for SIGINT."""

    exit_code = 130
