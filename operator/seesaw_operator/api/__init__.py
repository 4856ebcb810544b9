"""The custom resource: typed models, and the CRD that is generated from them."""
