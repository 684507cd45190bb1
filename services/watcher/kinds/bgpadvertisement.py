"""BGPAdvertisement: the VIPs of which pools are told to which routers, by which nodes, and how."""

import re
from typing import Final

from services.watcher.kinds.bgppeer import node_selectors
from services.watcher.kinds.fields import Field
from services.watcher.kinds.kind import Kind
from services.watcher.kinds.routes import DECODE
from services.watcher.kinds.schema import SELECTOR, fields, of_kind
from services.watcher.settings import Settings
from weir.events import BgpAdvertisementGone, BgpAdvertisementObserved
from weir.model import BgpOffer, Root

_MOST_PREPENDED: Final = 10
_MOST_MED: Final = 2**32 - 1
_WELL_KNOWN: Final = ("no-export", "no-advertise", "local-AS", "no-peer", "graceful-shutdown", "blackhole")
_COMMUNITY: Final = re.compile(r"([0-9]{1,5}):([0-9]{1,5})|([0-9]{1,10}):([0-9]{1,10}):([0-9]{1,10})")


def _read(manifest: Field, root: Root, _: Settings) -> BgpAdvertisementObserved | None:
    spec = manifest["spec"]
    offer = BgpOffer(
        length=spec["aggregationLength"].number(1, 32, 32),
        length_v6=spec["aggregationLengthV6"].number(1, 128, 128),
        active_backup=spec["activeBackup"].flag(absent=False),
        local_pref=spec["localPref"].number(0, _MOST_MED, 100),
        med=spec["med"].number(0, _MOST_MED),
        prepend=spec["prepend"].number(0, _MOST_PREPENDED),
        communities=tuple(dict.fromkeys(filter(None, map(_community, spec["communities"].items())))),
    )
    event = BgpAdvertisementObserved(
        root=root, offer=offer, pools=_names(spec["pools"]), peers=_names(spec["peers"]), nodes=node_selectors(spec)
    )
    return None if manifest.faults else event


def _names(field: Field) -> tuple[str, ...]:
    return tuple(filter(None, (item.domain_name() for item in field.items())))


def _community(item: Field) -> str:
    text = item.text()
    if text in _WELL_KNOWN:
        return text
    found = _COMMUNITY.fullmatch(text)
    numbers = [int(part) for part in found.groups() if part] if found else []
    if not numbers or max(numbers) > (2**16 - 1 if len(numbers) == 2 else 2**32 - 1):
        item.fail(f"ASN:NUMBER, ASN:NUMBER:NUMBER for a large one, or one of {', '.join(_WELL_KNOWN)}")
        return ""
    return ":".join(map(str, numbers))


BGPADVERTISEMENT: Final = Kind(
    word="BGPAdvertisement",
    plural="bgpadvertisements",
    group="weir.dev",
    versions=("v1alpha1",),
    namespaced=False,
    optional=True,
    decode=DECODE,
    read=_read,
    observed=BgpAdvertisementObserved,
    gone=BgpAdvertisementGone,
    fields=of_kind(
        spec=fields(
            "activeBackup aggregationLength aggregationLengthV6 communities localPref med peers pools prepend", nodeSelectors=SELECTOR
        ),
    ),
)
