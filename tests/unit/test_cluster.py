"""Clusters: presets, files, refusals."""

from __future__ import annotations

import pytest

from uniap_core import artifact, cluster
from uniap_core.errors import BadFile, BadValue, UnknownName

TOML = """
name = "lab"
inter_GBps = 12.5
price_per_device_hour = 1.0
[[nodes]]
kind = "A100-80G"
devices = 4
count = 2
[[nodes]]
kind = "V100-32G"
devices = 4
memory_gib = 30.0
"""


@pytest.mark.parametrize(
    ("name", "devices", "nodes"),
    [
        ("8xV100-32G", 8, 1),
        ("2x4xTITANXp-12G", 8, 2),
        ("8xA100-40G", 8, 1),
        ("8xA100-80G", 8, 1),
        ("4x8xH100-80G", 32, 4),
        ("2x8xH200", 16, 2),
        ("16x8xB200", 128, 16),
        ("4xRTX3090", 4, 1),
    ],
)
def test_presets(name, devices, nodes):
    found = cluster.load(name)
    assert (found.devices, len(found.nodes)) == (devices, nodes)
    assert found.homogeneous
    assert found.name == name


def test_every_kind_is_usable_and_says_its_source():
    for name, kind in cluster.kinds().items():
        assert cluster.preset(f"2x4x{name}").devices == 8
        assert kind.device.source
        assert 0.3 < kind.device.matmul_ceiling <= 1


@pytest.mark.parametrize("name", ["8xZ9000", "A100-40G", "8", "8xA100-40G-extra", ""])
def test_unknown_presets_say_what_is_known(name):
    with pytest.raises(UnknownName) as caught:
        cluster.load(name)
    assert "A100-40G" in caught.value.fix


def test_no_devices():
    with pytest.raises(BadValue, match="no device"):
        cluster.load("0x8xH100-80G")


def test_a_file_with_unequal_nodes(tmp_path):
    path = tmp_path / "lab.toml"
    path.write_text(TOML)
    lab = cluster.load(str(path))
    assert lab.devices == 12
    assert not lab.homogeneous
    assert lab.inter.bandwidth_Bps == 12.5e9
    assert lab.device(11).memory_bytes == 30 * 2**30
    assert list(lab.stage_ranks(1, 3)) == [4, 5, 6, 7]
    for depth in (1, 2, 3, 4, 6, 12):
        for stage in range(depth):
            nodes = dict.fromkeys(lab.node_of[rank] for rank in lab.stage_ranks(stage, depth))
            assert lab.stage_nodes(stage, depth) == tuple(lab.nodes[node] for node in nodes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "is not TOML"),
        (TOML.replace("count = 2", "cuont = 2"), r"unknown field `cuont`.*nodes\[0\]"),
        (TOML.replace("devices = 4", 'devices = "four"'), r"nodes\[0\]\.devices"),
        ('name = "x"\nnodes = []', "lists no nodes"),
    ],
)
def test_bad_files_name_the_field(text, message):
    with pytest.raises(BadFile, match=message):
        cluster.from_toml(text)


def test_a_cluster_is_a_document(tmp_path):
    lab = cluster.from_toml(TOML)
    artifact.write(tmp_path / "lab.json", lab)
    assert cluster.load(str(tmp_path / "lab.json")) == lab
    assert cluster.load(str(tmp_path / "lab.json")).hash == lab.hash


def test_figures_must_be_positive():
    with pytest.raises(BadValue, match="positive"):
        cluster.from_toml(TOML.replace("12.5", "-1.0"))


def test_a_node_of_joined_hosts_has_the_links_of_all_of_them():
    hosts, joined = cluster.load("16x4xGB200"), cluster.load("1x64xGB200")
    assert joined.inter.bandwidth_Bps == 16 * hosts.inter.bandwidth_Bps
    assert cluster.load("2x16xH100-80G").inter == cluster.load("4x8xH100-80G").inter
