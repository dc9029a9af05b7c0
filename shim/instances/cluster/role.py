"""What the account of the server has to be allowed on Kubernetes, and no more."""

from __future__ import annotations

import json

ACCOUNT = "nbfolio"

_RULES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("", "secrets", ("get", "list", "watch", "create", "patch", "delete")),
    ("", "persistentvolumeclaims", ("get", "list", "watch", "create", "delete")),
    ("", "services", ("get", "list", "create", "delete")),
    ("", "pods", ("get", "list", "watch")),
    ("", "events", ("get", "list", "watch")),
    ("apps", "statefulsets", ("get", "list", "watch", "create", "patch", "delete")),
    ("networking.k8s.io", "ingresses", ("get", "list", "create", "delete")),
)


def role(namespace: str) -> str:
    """ServiceAccount, Role and RoleBinding for one namespace, as YAML for `kubectl apply -f -`.

    The right to read Secrets is for all of the namespace: give instances one of their own.
    """
    return "---\n".join((_account(namespace), _role(namespace), _binding(namespace)))


def _account(namespace: str) -> str:
    return f"apiVersion: v1\nkind: ServiceAccount\n{_meta(namespace)}"


def _role(namespace: str) -> str:
    rules = "".join(
        f"  - apiGroups: {json.dumps([group])}\n    resources: {json.dumps([kind])}\n    verbs: {json.dumps(verbs)}\n"
        for group, kind, verbs in _RULES
    )
    return f"apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\n{_meta(namespace)}rules:\n{rules}"


def _binding(namespace: str) -> str:
    return (
        f"apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\n{_meta(namespace)}"
        f"roleRef:\n  apiGroup: rbac.authorization.k8s.io\n  kind: Role\n  name: {ACCOUNT}\n"
        f"subjects:\n  - kind: ServiceAccount\n    name: {ACCOUNT}\n    namespace: {json.dumps(namespace)}\n"
    )


def _meta(namespace: str) -> str:
    return f"metadata:\n  name: {ACCOUNT}\n  namespace: {json.dumps(namespace)}\n"
