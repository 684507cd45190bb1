"""Which addresses a Service asks for, with whom it shares them, and who may connect to them."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from services.watcher.kinds.annotations import Asked, not_yet
from services.watcher.kinds.fields import Field, show
from services.watcher.kinds.ranges import range_of
from services.watcher.settings import Settings
from weir.model import (
    FAMILIES,
    FAMILY_POLICIES,
    Family,
    FamilyPolicy,
    Problem,
    family_of,
)

_IPAM: Final[dict[str, Family]] = {"ipv4": "IPv4", "ip": "IPv4", "ip4": "IPv4", "ipv6": "IPv6", "ip6": "IPv6", "nat66": "IPv6"}
_IPAM_LATER: Final = ("ipv6to4", "nat64")
_MOST_KEY: Final = 253


class Addresses(NamedTuple):
    """As `ServiceObserved` has them."""

    families: tuple[Family, ...]
    family_policy: FamilyPolicy
    requested: tuple[str, ...]
    more_requested: tuple[str, ...]
    pools: tuple[str, ...]
    more_pools: tuple[str, ...]
    share_key: str
    exclusive: bool
    source_ranges: tuple[str, ...]


def read_addresses(spec: Field, asked: Asked, settings: Settings, unsupported: list[Problem], *, resolved: bool) -> Addresses:
    """Read what the spec and the annotations request; what is not served is noted in `unsupported`.

    resolved: an API server has settled `ipFamilies`: what is not in it has no endpoints, PreferDualStack or not.
    """
    families, policy = _families(spec, asked, unsupported)
    if resolved and len(families) == 1 and policy == "PreferDualStack":
        policy = "SingleStack"
    any_of = families if policy == "SingleStack" else ()
    more = (*asked.several("more-ips"), *_external(spec["externalIPs"], settings, unsupported))
    return Addresses(
        families=families,
        family_policy=policy,
        requested=_canonical((spec["loadBalancerIP"], asked["staticIP"], *asked.several("ips")), any_of),
        more_requested=_canonical(more, any_of),
        pools=_names(asked, "pool"),
        more_pools=() if asked["more-ips"].value else _names(asked, "more-pools"),
        share_key=_share_key(asked["share-key"]),
        exclusive=asked["exclusive"].word(("yes", "no"), "no") == "yes",
        source_ranges=_sources(spec, asked),
    )


def _families(spec: Field, asked: Asked, unsupported: list[Problem]) -> tuple[tuple[Family, ...], FamilyPolicy]:
    """Return the families named, in order (none: the pools choose), and the policy as an API server defaults it."""
    families = tuple(dict.fromkeys(item.word(FAMILIES, "IPv4") for item in spec["ipFamilies"].items()))
    absent: FamilyPolicy = "RequireDualStack" if len(families) > 1 else "SingleStack"
    policy = spec["ipFamilyPolicy"].word(FAMILY_POLICIES, absent)
    for item in spec["ipFamilies"].items():
        if item.value in (None, ""):
            item.fail(", ".join(FAMILIES))
    if len(families) < len(spec["ipFamilies"].items()):
        spec["ipFamilies"].fail("each family once")
    elif len(families) > 1 and policy == "SingleStack":
        spec["ipFamilies"].fail("one family; for two ipFamilyPolicy must be PreferDualStack or RequireDualStack", ", ".join(families))
    family = asked["ipam"].word((*_IPAM, *_IPAM_LATER), "")
    if family in _IPAM_LATER:
        unsupported.append(not_yet(asked["ipam"], _IPAM))
    elif family and families and _IPAM[family] not in families:
        accepted = f"what spec.ipFamilies says ({', '.join(families)}): endpoints are of that family"
        unsupported.append(Problem(field=asked["ipam"].path, got=show(family), accepted=accepted))
    return families or ((_IPAM[family],) if family in _IPAM else ()), policy


def _canonical(fields: Iterable[Field], families: tuple[Family, ...]) -> tuple[str, ...]:
    """Addresses; the same asked for in two ways is asked for once.  families: empty where any will do."""
    found: dict[str, None] = {}
    for field in fields:
        address = field.address() if field.value not in (None, "") else None
        if address and families and family_of(str(address)) not in families:
            field.fail(f"an address of {', '.join(families)}, as ipFamilies says")
        elif address:
            found[str(address)] = None
    return tuple(found)


def _external(field: Field, settings: Settings, unsupported: list[Problem]) -> list[Field]:
    """The addresses of `spec.externalIPs` where they may be asked for."""
    if settings.external_ips:
        return field.items()
    if field.value not in (None, []):
        accepted = "nothing: whoever may write a Service could take any address (CVE-2020-8554); ask for loadBalancerIP of a pool"
        unsupported.append(Problem(field=field.path, got=show(field.value), accepted=accepted))
    return []


def _names(asked: Asked, annotation: str) -> tuple[str, ...]:
    """Return names of pools in lower case, as in the API: kube-loxilb's are called defaultPool, and its README quotes them like “this”."""
    fields = [Field(str(field.value).strip("“”").lower(), field.path, field.faults) for field in asked.several(annotation)]
    return tuple(dict.fromkeys(name for field in fields if (name := field.domain_name())))


def _share_key(field: Field) -> str:
    text = field.text()
    if len(text) > _MOST_KEY:
        field.fail(f"at most {_MOST_KEY} characters")
    return text


def _sources(spec: Field, asked: Asked) -> tuple[str, ...]:
    """Canonical CIDRs, each once, in the order written.  /0 is everyone of its family.

    The API's own annotation counts where neither the spec nor ours is given, as in its GetLoadBalancerSourceRanges.
    """
    listed, written = spec["loadBalancerSourceRanges"].items(), asked.several("source-ranges")
    if listed and written:
        asked["source-ranges"].fail("nothing, since spec.loadBalancerSourceRanges is given")
    return tuple(dict.fromkeys(cidr for field in listed or written or asked.sources_before_spec() if (cidr := _source(field))))


def _source(field: Field) -> str:
    text = field.text().strip()
    found = range_of(text) if "/" in text else None
    if not found:
        if field.value is None or text or field.value == "":
            field.fail("a CIDR (203.0.113.0/24)")
        return ""
    return found.text
