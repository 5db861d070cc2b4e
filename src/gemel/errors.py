"""The one exception for mistakes of the user; every room may raise it."""


class UserError(ValueError):
    """The user's words or files are at fault: the command line prints the mistakes and leaves with 2.

    Args:
        mistakes: each says what was given, what is allowed and what to do.
    """

    def __init__(self, *mistakes: str) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(mistakes))
