"""Instances on Kubernetes: a StatefulSet each, with a Service, an Ingress, a volume, and a Secret that says it all."""
