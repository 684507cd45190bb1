"""Text for people: abbreviated lists, and reasons."""

from collections.abc import Iterable


def few(words: Iterable[str], most: int = 5, apart: str = ", ") -> str:
    """Join the first of `words`, with the number of the others: the log has every one."""
    listed = list(words)
    more = [f"and {len(listed) - most} more"] if len(listed) > most else []
    return apart.join([*listed[:most], *more])


def reason_of(error: BaseException) -> str:
    """Return the message of `error`, or its type where it has none, such as a timeout."""
    return str(error) or ("no answer" if isinstance(error, TimeoutError) else type(error).__name__)
