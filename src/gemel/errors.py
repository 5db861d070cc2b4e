"""The exceptions that end a command without a traceback; every room may raise them."""


class UserError(ValueError):
    """The user's words or files are at fault: the command line prints the mistakes and leaves with 2.

    Args:
        mistakes: each says what was given, what is allowed and what to do.
    """

    def __init__(self, *mistakes: str) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(mistakes))


class Interrupted(RuntimeError):
    """A signal ended the training, the checkpoint is written: the command line leaves with 130."""


class Diverged(RuntimeError):
    """The loss is no longer a number; the last good checkpoint is kept: the command line leaves with 1."""
