"""Pure builders: what a SeesawDeployment needs in the cluster, as manifests."""
