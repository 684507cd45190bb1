"""One seed: an installation, an operator who changes it while everything fails, and then rest."""

import random

from tests.sim.at_rest import check_at_rest, comes_to_rest
from tests.sim.installation import Installation
from tests.sim.operator import Operator
from tests.sim.promises import Promises
from tests.sim.virtual_time import run

STEPS = 30
RESTORED = 0.1  # of the seeds: the log is replaced by an older copy once


def play(seed: int) -> Installation:
    """Raises AssertionError, with the seed, where a promise does not hold."""
    try:
        return run(_scenario(seed))
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise


async def _scenario(seed: int) -> Installation:
    random.seed(seed)  # the product's own delays
    dice = random.Random(seed)
    here = Installation(dice)
    promises, operator = Promises(here), Operator(here)
    here.log.restored = dice.random() < RESTORED
    restored_at = dice.randrange(STEPS) if here.log.restored else None
    operator.begin()
    for number in range(STEPS):
        await operator.pause()
        operator.step()
        if number == restored_at:
            length = dice.choice([end for end in here.log.ends if end >= here.log.first - 1])
            promises.cut(length)
            here.log.restore(length)
        _raise(here)
    await comes_to_rest(here)
    _raise(here)
    check_at_rest(here)
    here.stop()
    return here


def _raise(here: Installation) -> None:
    for error in here.broken:
        raise error
