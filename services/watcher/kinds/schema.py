"""The fields of the kinds that Weir reads, and the kinds of their groups, as Kubernetes 1.36 and Weir's CRDs have them.

`tests/cluster/test_schema.py` compares this page with the API's own.  A field that is not here is a fault in a folder; an API
server judges its objects itself, and may be newer.
"""

from typing import Final, Optional

Fields = dict[str, Optional["Fields"]]  # None: whatever is below is free, or has no fields


def _fields(names: str, **below: Fields) -> Fields:
    return {**dict.fromkeys(names.split()), **below}


def _kind(metadata: Fields, names: str = "", **below: Fields) -> Fields:
    return _fields(f"apiVersion kind {names}", metadata=metadata, **below)


_META: Final = _fields(
    "annotations creationTimestamp deletionGracePeriodSeconds deletionTimestamp finalizers generateName generation labels name namespace"
    " resourceVersion selfLink uid",
    managedFields=_fields("apiVersion fieldsType fieldsV1 manager operation subresource time"),
    ownerReferences=_fields("apiVersion blockOwnerDeletion controller kind name uid"),
)
_CONDITIONS: Final = _fields("lastTransitionTime message observedGeneration reason status type")
_CONFIG: Final = _fields("", configMap=_fields("kubeletConfigKey name namespace resourceVersion uid"))
_SELECTOR: Final = _fields("matchLabels", matchExpressions=_fields("key operator values"))

_SERVICE: Final = _kind(
    _META,
    spec=_fields(
        "allocateLoadBalancerNodePorts clusterIP clusterIPs externalIPs externalName externalTrafficPolicy healthCheckNodePort"
        " internalTrafficPolicy ipFamilies ipFamilyPolicy loadBalancerClass loadBalancerIP loadBalancerSourceRanges"
        " publishNotReadyAddresses selector sessionAffinity trafficDistribution type",
        ports=_fields("appProtocol name nodePort port protocol targetPort"),
        sessionAffinityConfig=_fields("", clientIP=_fields("timeoutSeconds")),
    ),
    status=_fields(
        "",
        conditions=_CONDITIONS,
        loadBalancer=_fields("", ingress=_fields("hostname ip ipMode", ports=_fields("error port protocol"))),
    ),
)
_SLICE: Final = _kind(
    _META,
    "addressType",
    endpoints=_fields(
        "addresses deprecatedTopology hostname nodeName zone",
        conditions=_fields("ready serving terminating"),
        hints=_fields("", forNodes=_fields("name"), forZones=_fields("name")),
        targetRef=_fields("apiVersion fieldPath kind name namespace resourceVersion uid"),
    ),
    ports=_fields("appProtocol name port protocol"),
)
_NAMESPACE: Final = _kind(
    _META,
    spec=_fields("finalizers"),
    status=_fields("phase", conditions=_fields("lastTransitionTime message reason status type")),
)
_NODE: Final = _kind(
    _META,
    spec=_fields(
        "externalID podCIDR podCIDRs providerID unschedulable", configSource=_CONFIG, taints=_fields("effect key timeAdded value")
    ),
    status=_fields(
        "allocatable capacity declaredFeatures phase volumesInUse",
        addresses=_fields("address type"),
        conditions=_fields("lastHeartbeatTime lastTransitionTime message reason status type"),
        config=_fields("error", active=_CONFIG, assigned=_CONFIG, lastKnownGood=_CONFIG),
        daemonEndpoints=_fields("", kubeletEndpoint=_fields("Port")),
        features=_fields("supplementalGroupsPolicy"),
        images=_fields("names sizeBytes"),
        nodeInfo=_fields(
            "architecture bootID containerRuntimeVersion kernelVersion kubeProxyVersion kubeletVersion machineID operatingSystem osImage"
            " systemUUID",
            swap=_fields("capacity"),
        ),
        runtimeHandlers=_fields("name", features=_fields("recursiveReadOnlyMounts userNamespaces")),
        volumesAttached=_fields("devicePath name"),
    ),
)
_POOL: Final = _kind(
    _META,
    spec=_fields(
        "addresses autoAssign avoidBuggyIPs priority share shareWithNodes", serviceSelector=_SELECTOR, namespaceSelector=_SELECTOR
    ),
    status=_fields("total used", conditions=_CONDITIONS),
)
_RECORD: Final = _kind(_META, status=_fields("addresses healthy node nodes reason total vips", conditions=_CONDITIONS))

FIELDS: Final = {
    "Service": _SERVICE,
    "EndpointSlice": _SLICE,
    "VIPPool": _POOL,
    "LBService": _RECORD,
    "Namespace": _NAMESPACE,
    "Node": _NODE,
}
KINDS: Final = {  # group -> kinds; each has a list too, which is called so
    "": frozenset(
        (
            *(
                "Binding",
                "ComponentStatus",
                "ConfigMap",
                "Endpoints",
                "Event",
                "LimitRange",
                "List",
                "Namespace",
                "Node",
                "PersistentVolume",
            ),
            *(
                "PersistentVolumeClaim",
                "Pod",
                "PodTemplate",
                "ReplicationController",
                "ResourceQuota",
                "Secret",
                "Service",
                "ServiceAccount",
            ),
        )
    ),
    "discovery.k8s.io": frozenset(["EndpointSlice"]),
    "weir.dev": frozenset(["LBNode", "LBService", "VIPPool"]),
}
