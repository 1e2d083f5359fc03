"""Ray on virtual machines (``infra/ray-aws.yaml``): what its launcher takes, how a machine starts, whose rights."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

INFRA = Path(__file__).parent.parent / "infra"


def test_machines_are_what_ray_takes() -> None:
    cluster = yaml.safe_load((INFRA / "ray-aws.yaml").read_text())
    ray = importlib.util.find_spec("ray")
    assert ray is not None
    assert ray.origin is not None
    schema = json.loads(Path(ray.origin).with_name("autoscaler").joinpath("ray-schema.json").read_text())
    jsonschema.validate(cluster, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**cluster, "idle_timeout_minute": 1}, schema)
    kinds = cluster["available_node_types"]
    assert kinds[cluster["head_node_type"]]["resources"] == {"CPU": 0}
    for name, kind in kinds.items():
        market = kind["node_config"].get("InstanceMarketOptions", {}).get("MarketType")
        assert (market == "spot") == (name != cluster["head_node_type"])
        assert kind["node_config"]["MetadataOptions"]["HttpTokens"] == "required"
        role = kind["node_config"]["IamInstanceProfile"]["Name"]
        assert role == ("dexter-head" if name == cluster["head_node_type"] else "dexter-lab")
    assert sum(kind.get("max_workers", 0) for kind in kinds.values()) <= cluster["max_workers"]
    settings = dict(each.split("=", 2)[1:] for each in cluster["docker"]["run_options"] if each.startswith("--env="))
    assert (settings["RAY_AUTH_MODE"], settings["RAY_ADDRESS"]) == ("token", "auto")
    kustomization = yaml.safe_load((INFRA / "kubernetes" / "kustomization.yaml").read_text())
    on_kubernetes = dict(each.split("=", 1) for each in kustomization["configMapGenerator"][0]["literals"])
    assert settings["DEXTER_DATASETS_ROOT"] == on_kubernetes["DEXTER_DATASETS_ROOT"]
    assert "--dashboard-host=127.0.0.1" in str(cluster["head_start_ray_commands"])


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ("echo 0123456789abcdef0123456789abcdef", True),
        ("true", False),
        ("echo None", False),  # what the CLI says of a secret without text
        ("false", False),
        ("echo 0123456789abcdef0123456789abcdef; false", False),
    ],
)
def test_a_machine_starts_with_a_token_or_not_at_all(answer: str, kept: bool, tmp_path: Path) -> None:
    """Its first commands, as Ray has a login shell run them, with functions in place of what a machine has."""
    cluster = yaml.safe_load((INFRA / "ray-aws.yaml").read_text())
    (mount,) = (each for each in cluster["docker"]["run_options"] if each.startswith("--volume="))
    *_, command = cluster["initialization_commands"]
    stubs = f'aws() {{ {answer}; }}; sudo() {{ echo "$*"; if [ "$2" = -o ]; then cat > token; fi; }}'
    done = subprocess.run(["bash", "-c", f"{stubs}; ({command})"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode == 0, (tmp_path / "token").exists()) == (kept, kept)
    if kept:
        assert (tmp_path / "token").read_text() == "0123456789abcdef" * 2
        path = done.stdout.split()[-1]
        assert mount.startswith(f"--volume={path}:")
        assert done.stdout.splitlines()[-1] == f"install -o 10001 -m 400 /dev/stdin {path}"


def test_the_head_starts_machines_by_the_rights_it_has_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Ray's own autoscaler asks of EC2 from a machine's start to its end; moto knows no conditions of EC2's."""
    import boto3
    from moto import mock_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "none")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
    asked: list[tuple[str, dict[str, Any]]] = []
    cluster = yaml.safe_load((INFRA / "ray-aws.yaml").read_text())
    config = cluster["available_node_types"]["gpu"]["node_config"]
    with mock_aws():
        ec2 = boto3.client("ec2", region_name="eu-central-1")
        boto3.client("iam").create_instance_profile(InstanceProfileName=config["IamInstanceProfile"]["Name"])
        network = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
        image = ec2.describe_images()["Images"][0]["ImageId"]
        provider = AWSNodeProvider({**cluster["provider"], "cluster_name": "dexter"}, cluster["cluster_name"])
        for client in (provider.ec2.meta.client, provider.ec2_fail_fast.meta.client):
            client.meta.events.register(
                "provide-client-params.ec2", lambda params, model, **_: asked.append((model.name, params))
            )
        provider.create_node({**config, "ImageId": image, "SubnetIds": [network]}, {"ray-node-type": "worker"}, 1)
        (node,) = provider.non_terminated_nodes({"ray-node-type": "worker"})
        provider.set_node_tags(node, {"ray-node-status": "up-to-date"})
        provider.terminate_node(node)
    statements = json.loads((INFRA / "iam" / "ray-autoscaler.json").read_text())["Statement"]
    allowed = {action for each in statements for action in each["Action"]}
    assert {f"ec2:{name}" for name, _ in asked} == allowed - {"iam:PassRole"}
    started = dict(asked)["RunInstances"]
    tags = {each["Key"]: each["Value"] for each in started["TagSpecifications"][0]["Tags"]}
    assert [each["ResourceType"] for each in started["TagSpecifications"]] == ["instance"]
    for statement in statements:
        conditions = statement.get("Condition", {})
        assert set(conditions) <= {"StringEquals"}, "what is not told must not pass"
        for key, value in conditions.get("StringEquals", {}).items():
            assert "/" not in key or tags[key.partition("/")[2]] == value
    (passing,) = (each for each in statements if "iam:PassRole" in each["Action"])
    assert passing["Resource"].endswith(f"role/{config['IamInstanceProfile']['Name']}")
