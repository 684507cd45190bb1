"""watcher: records what clusters and folders of manifests contain.  README.md says where to start."""
