"""watcher: what the cluster or a folder of manifests says, as facts."""
