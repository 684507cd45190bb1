"""Where observations come from: folders of manifests, and Kubernetes API servers."""
