"""What a reviewer of manifests looks for: names that lead nowhere, and pods with more rights than they need."""

from collections.abc import Iterator
from typing import Any

from tests.deploy.kubernetes import SECRETS, Object, Objects, amount, is_within, of_kind, pods


def complaints(objects: Objects) -> list[str]:
    """A line for each fault of a set of objects that are applied together."""
    return [
        *_of_selectors(objects),
        *_of_monitors(objects),
        *_of_scaling(objects),
        *(line for name, pod in pods(objects) for line in _of_pod(name, pod, objects)),
    ]


def _selected(objects: Objects, labels: dict[str, str]) -> list[tuple[str, Object]]:
    return [(name, pod) for name, pod in pods(objects) if is_within(labels, pod["metadata"]["labels"])]


def _port_names(pod: Object) -> set[str]:
    return {port["name"] for found in pod["spec"]["containers"] for port in found.get("ports", ())}


def _of_selectors(objects: Objects) -> Iterator[str]:
    for workload in of_kind(objects, "StatefulSet", "Deployment"):
        name, template = workload["metadata"]["name"], workload["spec"]["template"]
        wanted = workload["spec"]["selector"]["matchLabels"]
        if [found for found, _ in _selected(objects, wanted)] != [name]:
            yield f"{name}: its selector does not select its own pods alone"
        for spread in template["spec"].get("topologySpreadConstraints", ()):
            if not is_within(spread["labelSelector"]["matchLabels"], template["metadata"]["labels"]):
                yield f"{name}: spreads other pods than its own"
    for service in of_kind(objects, "Service"):
        name, spec = service["metadata"]["name"], service["spec"]
        found = _selected(objects, spec["selector"])
        if len(found) != 1:
            yield f"service {name}: selects {[workload for workload, _ in found]}"
        elif lost := {port["targetPort"] for port in spec["ports"]} - _port_names(found[0][1]):
            yield f"service {name}: no container has the ports {lost}"
    for budget in of_kind(objects, "PodDisruptionBudget"):
        if len(_selected(objects, budget["spec"]["selector"]["matchLabels"])) != 1:
            yield f"disruption budget {budget['metadata']['name']}: selects no workload, or several"
    for policy in of_kind(objects, "NetworkPolicy"):
        yield from _of_policy(policy, objects)


def _of_monitors(objects: Objects) -> Iterator[str]:
    services = of_kind(objects, "Service")
    for monitor in of_kind(objects, "ServiceMonitor"):
        name, spec = monitor["metadata"]["name"], monitor["spec"]
        wanted = spec["selector"]["matchLabels"]
        found = [service for service in services if is_within(wanted, service["metadata"].get("labels", {}))]
        if len(found) != 1:
            yield f"service monitor {name}: selects {len(found)} services"
            continue
        ports = {port["name"] for port in found[0]["spec"]["ports"]}
        if lost := {endpoint["port"] for endpoint in spec["endpoints"]} - ports:
            yield f"service monitor {name}: the service has no ports {lost}"
        if spec["jobLabel"] not in found[0]["metadata"]["labels"]:
            yield f"service monitor {name}: the service has no label {spec['jobLabel']}"


def _of_policy(policy: Object, objects: Objects) -> Iterator[str]:
    name, spec = policy["metadata"]["name"], policy["spec"]
    protected = _selected(objects, spec["podSelector"]["matchLabels"])
    if not protected:
        yield f"network policy {name}: selects no pod"
    if set(spec["policyTypes"]) != {"Ingress", "Egress"}:
        yield f"network policy {name}: leaves one direction open"
    peers = [peer for rule in spec["ingress"] for peer in rule.get("from", ())]
    peers += [peer for rule in spec.get("egress", ()) for peer in rule.get("to", ())]
    for peer in peers:
        if "podSelector" in peer and not _selected(objects, peer["podSelector"]["matchLabels"]):
            yield f"network policy {name}: no pod has the labels {peer['podSelector']['matchLabels']}"
    for rule in spec["ingress"]:
        for port in rule["ports"]:
            if not any(port["port"] in _port_names(pod) for _, pod in protected):
                yield f"network policy {name}: no container has the port {port['port']}"


def _of_scaling(objects: Objects) -> Iterator[str]:
    workloads = {(found["kind"], found["metadata"]["name"]): found for found in of_kind(objects, "StatefulSet")}
    services = {found["metadata"]["name"]: found["spec"] for found in of_kind(objects, "Service")}
    for (_, name), workload in workloads.items():
        if services.get(workload["spec"]["serviceName"], {}).get("clusterIP") != "None":
            yield f"{name}: has no headless service {workload['spec']['serviceName']}"
    for scaler in of_kind(objects, "ScaledObject"):
        target = scaler["spec"]["scaleTargetRef"]
        if (target["kind"], target["name"]) not in workloads:
            yield f"scaled object {scaler['metadata']['name']}: there is no {target['kind']} {target['name']}"


def _of_pod(name: str, pod: Object, objects: Objects) -> Iterator[str]:
    spec: dict[str, Any] = pod["spec"]
    security = spec.get("securityContext", {})
    if not security.get("runAsNonRoot") or security.get("runAsUser", 0) < 1000:
        yield f"{name}: may run as root"
    if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield f"{name}: has no seccomp profile"
    if spec.get("automountServiceAccountToken", True):
        yield f"{name}: gets a token for the API of Kubernetes"
    if spec.get("enableServiceLinks", True):
        yield f"{name}: gets variables of all services"
    volumes = {volume["name"] for volume in spec.get("volumes", ())}
    claims = _claim_templates(name, objects)
    for found in spec["containers"]:
        yield from _of_container(f"{name}: {found['name']}", found)
        mounts = {mount["name"] for mount in found.get("volumeMounts", ())}
        if mounts != volumes | claims:
            yield f"{name}: {found['name']} mounts {sorted(mounts)} of the volumes {sorted(volumes | claims)}"
    yield from _of_references(name, spec, objects)


def _claim_templates(name: str, objects: Objects) -> set[str]:
    return {
        claim["metadata"]["name"]
        for found in of_kind(objects, "StatefulSet")
        if found["metadata"]["name"] == name
        for claim in found["spec"].get("volumeClaimTemplates", ())
    }


def _of_container(name: str, found: Object) -> Iterator[str]:
    security = found.get("securityContext", {})
    if security.get("allowPrivilegeEscalation", True) or security.get("capabilities") != {"drop": ["ALL"]}:
        yield f"{name} has capabilities, or can get them"
    if not security.get("readOnlyRootFilesystem") and not found["image"].startswith("apache/kafka:"):
        yield f"{name} can write to its image"
    requests, limits = (found.get("resources", {}).get(which, {}) for which in ("requests", "limits"))
    if "cpu" not in requests or "memory" not in limits or amount(requests["memory"]) > amount(limits["memory"]):
        yield f"{name} has no requests or no limit of memory"
    ports = {port["name"] for port in found.get("ports", ())}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        action = found.get(probe, {})
        port = action.get("httpGet", action.get("tcpSocket", {"port": None}))["port"]
        if port is not None and port not in ports:
            yield f"{name} has no port {port} for its {probe}"


def _of_references(name: str, spec: Object, objects: Objects) -> Iterator[str]:
    names = {kind: {found["metadata"]["name"] for found in of_kind(objects, kind)} for kind in _REFERENCED}
    for volume in spec.get("volumes", ()):
        if (wanted := volume.get("configMap", {}).get("name")) and wanted not in names["ConfigMap"]:
            yield f"{name}: there is no ConfigMap {wanted}"
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        if claim and claim not in names["PersistentVolumeClaim"]:
            yield f"{name}: there is no claim {claim}"
        if (secret := volume.get("secret", {}).get("secretName")) and secret not in SECRETS:
            yield f"{name}: the page names no Secret {secret}"
    account = spec.get("serviceAccountName")
    if account and account not in names["ServiceAccount"]:
        yield f"{name}: there is no ServiceAccount {account}"
    for variable in (variable for found in spec["containers"] for variable in found.get("env", ())):
        secret = variable.get("valueFrom", {}).get("secretKeyRef", {}).get("name")
        if secret and secret not in SECRETS:
            yield f"{name}: the page names no Secret {secret}"


_REFERENCED = ("ConfigMap", "PersistentVolumeClaim", "ServiceAccount")
