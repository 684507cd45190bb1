"""The known word that a misspelt one stands for."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

_LIKE: Final = 0.6  # ratio of letters in common from which a word is worth proposing
_SAME: Final = 0.8  # from which it is that word, misspelt
_MOST_LETTERS: Final = 2  # more or fewer of them than a word that it is to be


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the most similar known word, ignoring case; "" where none is similar."""
    return _closest(word, known, _LIKE)


def misspelt(word: str, known: Iterable[str]) -> str:
    """Return `nearest` where both differ so little that `word` can be quoted though it may come from a Secret."""
    found = _closest(word, known, _SAME)
    return found if abs(len(found) - len(word)) <= _MOST_LETTERS else ""


def _closest(word: str, known: Iterable[str], cutoff: float) -> str:
    by_lower = {each.lower(): each for each in sorted(known)}
    found = get_close_matches(word.lower()[:100], by_lower, n=1, cutoff=cutoff)
    return by_lower[found[0]] if found else ""
