"""Questions without an answer."""


class Unanswerable(Exception):
    """The question has no answer: wrong usage, or outside of what is recorded.  React: report it, exit code 2."""

    code = 2


class NotFound(Unanswerable):
    """What was asked for by name does not exist.  React: report it, exit code 1, as kubectl does."""

    code = 1
