"""The manifests of infra/, checked as a cluster would check them and as a person would read them."""

from __future__ import annotations

import copy
import functools
import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parent.parent
INFRA, KUBERNETES = ROOT / "infra", ROOT / "infra" / "kubernetes"
SCHEMAS = Path(os.environ.get("DEXTER_SHARED", ROOT.parent / "shared"), "schemas", "kuberay")
needs_schemas = pytest.mark.skipif(not SCHEMAS.is_dir(), reason="KubeRay's schemas are not here")
RAY = {"RayCluster": "rayclusters", "RayJob": "rayjobs"}


@functools.cache
def schema_of(kind: str) -> dict[str, Any]:
    """A custom resource's schema, closed: what it does not name is an error, as `kubectl --validate=strict` has it."""
    text = (SCHEMAS / f"ray.io_{RAY[kind]}.yaml").read_text()
    definition = yaml.CSafeLoader(text).get_single_data()  # what safe_load does, in C: these are long
    version = next(each for each in definition["spec"]["versions"] if each["name"] == "v1")
    return closed(version["schema"]["openAPIV3Schema"])


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    told = {key: value for key, value in schema.items() if key in ("type", "enum", "required", "minimum", "pattern")}
    if "properties" in schema:
        told["properties"] = {name: closed(each) for name, each in schema["properties"].items()}
        told["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    elif isinstance(schema.get("additionalProperties"), dict):
        told["additionalProperties"] = closed(schema["additionalProperties"])
    if "items" in schema:
        told["items"] = closed(schema["items"])
    return told


@functools.cache
def validator(kind: str) -> jsonschema.Draft202012Validator:
    """Of a custom resource, or of a ``Pod`` template as KubeRay's schemas have it."""
    if kind != "Pod":
        return jsonschema.Draft202012Validator(schema_of(kind))
    head = schema_of("RayCluster")["properties"]["spec"]["properties"]["headGroupSpec"]
    return jsonschema.Draft202012Validator(head["properties"]["template"])


def manifests() -> list[dict[str, Any]]:
    files = sorted(KUBERNETES.glob("*.yaml"))
    documents = [each for file in files for each in yaml.safe_load_all(file.read_text())]
    return [each for each in documents if each["kind"] != "Kustomization"]


def manifest(kind: str, name: str | None = None) -> dict[str, Any]:
    return next(each for each in manifests() if each["kind"] == kind and name in (None, each["metadata"].get("name")))


def kustomization() -> dict[str, Any]:
    told: dict[str, Any] = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    return told


def template(kind: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((INFRA / "prefect" / f"{kind}-job.json").read_text())
    return told


def filled(value: Any, variables: dict[str, Any]) -> Any:
    """A work pool's template with the defaults of its variables, as a run gets that sets none."""
    if isinstance(value, dict):
        return {key: filled(each, variables) for key, each in value.items()}
    if isinstance(value, list):
        return [filled(each, variables) for each in value]
    name = re.fullmatch(r"\{\{ (\w+) \}\}", value) if isinstance(value, str) else None
    return variables[name[1]].get("default") if name else value


def job() -> dict[str, Any]:
    """The Kubernetes job of a run; the command and the variables it gets are Prefect's."""
    pool = template("kubernetes")
    told: dict[str, Any] = filled(pool["job_configuration"], pool["variables"]["properties"])["job_manifest"]
    container = told["spec"]["template"]["spec"]["containers"][0]
    container["args"] = ["prefect", "flow-run", "execute"]
    container["env"] = [{"name": name, "value": value} for name, value in container["env"].items()]
    return told


def pod_templates() -> dict[str, dict[str, Any]]:
    """Every pod that infra/ makes, by where it is written."""
    found = {"flow run": job()["spec"]["template"]}
    for each in manifests():
        kind, spec = each["kind"], each.get("spec", {})
        cluster = spec.get("rayClusterSpec", spec)
        if kind in ("Deployment", "StatefulSet"):
            found[each["metadata"]["name"]] = spec["template"]
        elif kind in RAY:
            found[f"{kind} head"] = cluster["headGroupSpec"]["template"]
            found |= {f"{kind} {group['groupName']}": group["template"] for group in cluster["workerGroupSpecs"]}
        if "submitterPodTemplate" in spec:
            found["submitter"] = spec["submitterPodTemplate"]
    return found


PODS = pod_templates()
every_pod = pytest.mark.parametrize("pod", PODS.values(), ids=PODS.keys())


def keys(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all keys of mappings, however deep."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in pairs:
        if isinstance(value, dict):
            yield (*path, key)
        yield from keys(each, (*path, key))


@needs_schemas
@pytest.mark.parametrize("kind", RAY)
def test_ray_manifests_are_what_kuberay_takes(kind: str) -> None:
    validator(kind).validate(manifest(kind))


@needs_schemas
def test_every_misspelled_field_is_refused() -> None:
    """Else a forgotten `s` would silently mean the default."""
    good = manifest("RayCluster")
    strict = validator("RayCluster")
    free = {"rayStartParams", "nodeSelector", "annotations", "labels", "requests", "limits"}  # keys are the user's
    paths = [path for path in keys(good) if path[0] == "spec" and path[1:] and not free & set(path[:-1])]
    assert len(paths) > 150
    for path in paths:
        bad = copy.deepcopy(good)
        parent = functools.reduce(lambda inner, key: inner[key], path[:-1], bad)
        parent[f"{path[-1]}x"] = parent.pop(path[-1])
        assert not strict.is_valid(bad), path


@needs_schemas
@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("autoscalerOptions", "version"), "v3"),
        (("workerGroupSpecs", 0, "maxReplicas"), "many"),
        (("gcsFaultToleranceOptions", "backend"), "etcd"),
        (("headGroupSpec", "rayStartParams", "num-cpus"), 0),  # flags of a command are text
        (("workerGroupSpecs", 0, "groupName"), None),
    ],
)
def test_values_of_the_wrong_kind_are_refused(path: tuple[Any, ...], value: Any) -> None:
    bad = manifest("RayCluster")
    functools.reduce(lambda inner, key: inner[key], path[:-1], bad["spec"])[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        validator("RayCluster").validate(bad)


@needs_schemas
@every_pod
def test_pods_are_pods(pod: dict[str, Any]) -> None:
    validator("Pod").validate(pod)


@every_pod
def test_pods_cannot_gain_privileges(pod: dict[str, Any]) -> None:
    """What the namespace's level `restricted` demands, and a root filesystem that stays as it was built."""
    spec = pod["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        given = container["securityContext"]
        assert given["allowPrivilegeEscalation"] is False
        assert given["capabilities"] == {"drop": ["ALL"]}
        assert given["readOnlyRootFilesystem"]
        assert {each["mountPath"] for each in container["volumeMounts"]} >= {"/tmp"} or container["name"] == "redis"


@every_pod
def test_pods_say_what_they_need(pod: dict[str, Any]) -> None:
    for container in pod["spec"]["containers"]:
        resources = container["resources"]
        assert set(resources["requests"]) >= {"cpu", "memory"}
        assert set(resources["limits"]) >= set(resources["requests"])
        assert resources["limits"]["memory"] == resources["requests"]["memory"] or "ray" not in container["name"]
        assert resources["limits"].get("nvidia.com/gpu") == resources["requests"].get("nvidia.com/gpu")


@every_pod
def test_images_are_pinned_and_ours_where_our_code_runs(pod: dict[str, Any]) -> None:
    known = {each["name"]: f"{each['newName']}:{each['newTag']}" for each in kustomization()["images"]}
    for container in pod["spec"]["containers"]:
        image = known.get(container["image"], container["image"])
        tag = image.rpartition("/")[2].partition(":")[2]
        assert re.match(r"v?\d+\.\d+", tag), image
        assert ("gpu" in str(container["resources"])) == ("cuda" in image)


@every_pod
def test_what_pods_refer_to_exists(pod: dict[str, Any]) -> None:
    spec = pod["spec"]
    volumes = {each["name"] for each in spec.get("volumes", [])} | {"data"}  # redis's own claim
    maps = {each["name"] for each in kustomization()["configMapGenerator"]}
    if "serviceAccountName" in spec:
        assert manifest("ServiceAccount", spec["serviceAccountName"])
    for container in spec["containers"]:
        assert {each["name"] for each in container["volumeMounts"]} <= volumes
        for source in container.get("envFrom", []):
            assert source.get("configMapRef", {"name": "dexter"})["name"] in maps
    for name, key in secrets_in(pod):
        assert name in secrets_made(), name
        assert key is None or key in secrets_made()[name], (name, key)


def secrets_in(value: Any) -> set[tuple[str, str | None]]:
    """Secrets, and keys of them, that a manifest names."""
    if isinstance(value, list):
        return set().union(*map(secrets_in, value))
    if not isinstance(value, dict):
        return set()
    found = set().union(*map(secrets_in, value.values()))
    for field in ("secretKeyRef", "secretRef"):
        if field in value:
            found.add((value[field]["name"], value[field].get("key")))
    if "secretName" in value:
        found |= {(value["secretName"], item["key"]) for item in value.get("items", [{"key": "auth_token"}])}
    return found


def secrets_made() -> dict[str, set[str]]:
    """Secrets and their keys as the runbook has one make them."""
    text = (INFRA / "README.md").read_text().replace("\\\n", " ")
    made = re.findall(r"create secret generic (\S+) (.*)", text)
    return {name: set(re.findall(r"--from-literal=(\w+)=", rest)) for name, rest in made}


def test_all_secrets_are_made_by_the_runbook_and_used() -> None:
    assert {name for name, _ in secrets_in(manifests()) | secrets_in(job())} == set(secrets_made())


def test_no_secret_is_written_down() -> None:
    telling = re.compile(r"(password|secret_key|access_key|token|auth_string)$", re.IGNORECASE)
    for _, pod in PODS.items():
        for container in pod["spec"]["containers"]:
            for each in (one for one in container.get("env", []) if not one["name"].endswith("_SECRET_KEY")):
                assert not telling.search(each["name"]) or "valueFrom" in each, each["name"]
    for literal in (each for made in kustomization()["configMapGenerator"] for each in made["literals"]):
        assert not telling.search(literal.partition("=")[0])
    for file in [*INFRA.rglob("*.yaml"), *INFRA.rglob("*.json"), *(ROOT / "docker").iterdir()]:
        assert not re.search(r"AKIA[A-Z0-9]{12,}|BEGIN [A-Z ]*PRIVATE KEY|[a-f0-9]{40,63}\b(?<!@)", strip_digests(file))


def strip_digests(file: Path) -> str:
    return re.sub(r"sha256:[a-f0-9]{64}", "", file.read_text())


def test_versions_are_those_of_the_lock() -> None:
    locked = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line)
    assert manifest("RayCluster")["spec"]["rayVersion"] == locked["ray"]
    assert manifest("RayJob")["spec"]["rayClusterSpec"]["rayVersion"] == locked["ray"]
    worker = PODS["prefect-worker"]["spec"]["containers"][0]["image"]
    assert f":{locked['prefect']}-" in worker
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {each["newTag"] for each in kustomization()["images"]} == {project["version"]}


def test_addresses_fit_together() -> None:
    cluster = manifest("RayCluster")
    head = cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    ports = {each["name"]: each["containerPort"] for each in head["ports"]}
    flow_env = {each["name"]: each["value"] for each in job()["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert flow_env["RAY_ADDRESS"] == f"{cluster['metadata']['name']}-head-svc:{ports['gcs']}"
    assert head["livenessProbe"]["httpGet"]["port"] == ports["dashboard"]
    redis = manifest("Service", "redis")
    assert cluster["spec"]["gcsFaultToleranceOptions"]["redisAddress"] == f"redis:{redis['spec']['ports'][0]['port']}"
    metrics = {group["rayStartParams"]["metrics-export-port"] for group in cluster["spec"]["workerGroupSpecs"]}
    open_port = manifest("NetworkPolicy")["spec"]["ingress"][-1]["ports"][0]["port"]
    scraped = {each["port"] for each in scrapes("ray-compose")["dns_sd_configs"]}
    assert metrics == {str(open_port)} == {str(ports["metrics"])}
    assert scraped == {open_port}
    mounted = {each["mountPath"] for each in job()["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]}
    assert str(Path(flow_env["RAY_AUTH_TOKEN_PATH"]).parent) in mounted


def scrapes(name: str) -> dict[str, Any]:
    told = yaml.safe_load((INFRA / "prometheus.yaml").read_text())
    return next(each for each in told["scrape_configs"] if each["job_name"] == name)


def test_only_workers_are_on_spot_machines() -> None:
    spot = {name for name, pod in PODS.items() if "spot" in str(pod["spec"].get("nodeSelector"))}
    assert spot == {"RayCluster cpu", "RayCluster gpu", "RayJob gpu"}
    for name in spot:
        assert {"key": "spot", "operator": "Exists", "effect": "NoSchedule"} in PODS[name]["spec"]["tolerations"]
    on_demand = {name for name, pod in PODS.items() if "on-demand" in str(pod["spec"].get("nodeSelector"))}
    assert on_demand == {"RayCluster head", "RayJob head"}


def test_only_those_that_must_may_speak_to_kubernetes() -> None:
    allowed = {"prefect-worker", "RayCluster head"}
    for name, pod in PODS.items():
        assert (pod["spec"].get("automountServiceAccountToken") is not False) == (name in allowed), name
    role = manifest("Role")["rules"]
    assert all("*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"] for rule in role)
    assert not any("secrets" in rule["resources"] for rule in role)


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not here")
def test_kustomize_puts_our_registry_everywhere() -> None:
    made = subprocess.run(["kubectl", "kustomize", KUBERNETES], capture_output=True, text=True, check=True).stdout
    documents = {each["kind"]: each for each in yaml.safe_load_all(made)}
    assert "image: dexter-" not in made
    assert documents["RayCluster"]["metadata"]["namespace"] == "dexter"
    assert made.count("registry.example.org/dexter-cpu:") == 2


@pytest.mark.parametrize("kind", ["kubernetes", "docker"])
def test_work_pool_templates_are_whole(kind: str) -> None:
    """Prefect's rule: every placeholder is a variable; and ours: every variable is used, and its default is valid."""
    pool = template(kind)
    variables = pool["variables"]["properties"]
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(pool["job_configuration"])))
    assert used == set(variables)
    for schema in variables.values():
        if "default" in schema:
            jsonschema.validate(schema["default"], schema)
    assert re.search(r":(0\.|cpu)", variables["image"]["default"])


@pytest.mark.parametrize("kind", ["kubernetes", "docker"])
def test_a_run_joins_ray_before_it_begins(kind: str, tmp_path: Path) -> None:
    """The wrapper runs Prefect's command as it is given, and not when Ray cannot be joined, or there are no secrets."""
    pool = template(kind)
    told = filled(pool["job_configuration"], pool["variables"]["properties"])
    wrapper = (
        told["job_manifest"]["spec"]["template"]["spec"]["containers"][0]["command"]
        if kind == "kubernetes"
        else told["container_create_kwargs"]["entrypoint"]
    )
    assert wrapper[:2] == ["bash", "-c"]
    (tmp_path / "run.env").write_text("RAY_AUTH_TOKEN=secret\n")
    script = wrapper[2].replace("/run/secrets/dexter", str(tmp_path))

    def run(joined: bool) -> str:
        """With a shell function in place of `ray`."""
        stub = f'ray() {{ echo "ray $*"; {"true" if joined else "false"}; }}'
        command = ["bash", "-c", f"{stub}; {script}", *wrapper[3:], "sh", "-c", "echo $0 $RAY_AUTH_TOKEN", "a run"]
        environment = {"PATH": os.environ["PATH"], "RAY_ADDRESS": "head:6379"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout

    assert run(True).splitlines() == [
        "ray start --address=head:6379 --num-cpus=0 --object-store-memory=500000000",
        "a run secret" if kind == "docker" else "a run",
    ]
    assert "a run" not in run(False)
    if kind == "docker":
        (tmp_path / "run.env").unlink()
        assert run(True) == ""


def test_the_object_store_fits_into_shared_memory() -> None:
    """Else Ray would put it on disk: a container has 64 MB unless it is told, and Ray takes 30 % of the memory."""
    groups = []
    for kind in RAY:
        cluster = manifest(kind)["spec"].get("rayClusterSpec") or manifest(kind)["spec"]
        groups += [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert len(groups) == 5
    for group in groups:
        (shm,) = (each for each in group["template"]["spec"]["volumes"] if each["name"] == "shm")
        assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Gi"}
        assert 0 < int(group["rayStartParams"]["object-store-memory"]) < 1 << 30


def test_a_docker_run_gets_what_the_labs_own_worker_has() -> None:
    """Settings by the template, secrets by the file that the runbook makes; Prefect's by its worker."""
    lab = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
    service = lab["services"]["prefect-worker"]
    worker = service["environment"]
    variables = template("docker")["variables"]["properties"]
    settings = variables["env"]["default"]
    secret = set(re.findall(r'"([A-Z_]+)=\$', blocks()))
    assert secret == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN"}
    not_a_runs = {"DEXTER_OUT", "DEXTER_NOTIFY_URL", "PREFECT_API_AUTH_STRING"}
    assert set(worker) == set(settings) | secret | not_a_runs
    assert {name: worker[name] for name in settings} == settings
    assert variables["networks"]["default"] == [f"{lab['name']}_default"]
    mounts = dict(reversed(each.removesuffix(":ro").split(":")) for each in variables["volumes"]["default"])
    assert settings["DEXTER_DATASETS_ROOT"] in mounts
    create = variables["container_create_kwargs"]["default"]
    scratch = [{"Type": "volume", "Target": each} for each in service["volumes"] if ":" not in each]
    assert (create["mounts"], create["shm_size"], create["user"]) == (scratch, service["shm_size"][:2], "10001")
    (made,) = re.findall(r"/dev/stdin (\S+)/run.env", blocks())
    (read,) = re.findall(r" \. (\S+)/run.env", create["entrypoint"][2])
    assert mounts[read] == made


def test_files_that_the_runbook_names_are_there() -> None:
    for readme in (INFRA / "README.md", ROOT / "docker" / "README.md"):
        told = readme.read_text()
        links = re.findall(r"\]\((?!http)([^)#]+)\)", told)
        names = re.findall(
            r"(?<![\w/.:-])((?:infra|docker|configs|tests|docs|iam|kubernetes|prefect|grafana)/[\w./-]*)", told
        )
        assert len(names) > 4
        for name in {*links, *names} - {"docker/.env", "prefect/"}:
            assert (readme.parent / name).exists() or (ROOT / name).exists(), name


def blocks() -> str:
    """The commands of the runbook and of docker/README.md."""
    text = "\n".join((ROOT / folder / "README.md").read_text() for folder in ("infra", "docker"))
    return "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")


def test_commands_of_the_runbook_exist() -> None:
    """Every `dexter ...` in it is a command with these options."""
    import typer

    from flows.cli import app

    told = re.findall(
        r"\bdexter ((?:[a-z][\w-]*)(?: [^#|;&\n)]*)?)", re.sub(r"-(?:t|n|p) dexter\b|dexter/", "", blocks())
    )
    told = [each for each in told if not each.startswith(("-", ":"))]
    assert len(told) > 10
    for line in told:
        command: Any = typer.main.get_command(app)
        words = line.split()
        while hasattr(command, "commands"):
            assert words, line
            name = words.pop(0)
            assert name in command.commands, line
            command = command.commands[name]
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        assert {word.partition("=")[0] for word in words if word.startswith("-")} <= known | {"--help"}, line
