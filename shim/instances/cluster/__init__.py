"""Instances on Kubernetes: StatefulSet, Service, Ingress, volume and token each, and a claim that says it all."""
