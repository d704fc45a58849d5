"""Spellings of GPUs and bandwidths, as tables in the wild write them."""

from __future__ import annotations

import pytest

from uniap_core.errors import BadValue
from uniap_core.estimate.hardware import bytes_per_second, cluster_of, find_kind, split_mixture


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("A100-SXM4-80GB", "A100-80G"),
        ("A100", "A100-80G"),
        ("A100-40GB", "A100-SXM-40G"),
        ("NVIDIA A100-PCIE-40GB", "A100-40G"),
        ("H100-96GB-HBM2e (500W, 2.4TB/s)", "H100-96G"),
        ("H100 80GB HBM3", "H100-80G"),
        ("H100", "H100-80G"),
        ("T4 (AWS g4dn.12xlarge x4)", "T4"),
        ("B200-SXM", "B200"),
        ("GB200 NVL72", "GB200"),
        ("GH-96", "GH200-96G"),
        ("MI300X", "MI300X"),
        ("GeForce RTX 3090", "RTX3090"),
        ("RTX 2080 Ti", "RTX2080Ti"),
        ("Titan-RTX", "TITANRTX-24G"),
        ("TITAN Xp", "TITANXp-12G"),
        ("V100-SXM2-16GB", "V100-16G"),
        ("V100-32GB (DGX-2, NVSwitch)", "V100-32G"),
        ("A10G", "A10G"),
        ("H800", "H800-80G"),
        ("L40S", "L40S"),
        ("8xRTX TITAN 24GB", "TITANRTX-24G"),
        ("4 x A100-SXM4-40GB", "A100-SXM-40G"),
        ("Quadro RTX 8000", "RTX8000-48G"),
        ("RTX 6000 Ada", "RTX6000Ada"),
        ("L40", "L40"),
        ("MI250", "MI250"),
        ("NVIDIA A30", "A30"),
    ],
)
def test_names_map_to_the_catalogue(name: str, kind: str) -> None:
    (word,) = split_mixture(name)
    assert find_kind(word).device.name == kind


def test_unknown_chip_is_named() -> None:
    with pytest.raises(BadValue, match="TPU v4"):
        find_kind("TPU v4")


@pytest.mark.parametrize(
    ("text", "gigabits"),
    [
        ("50 Gbps", 50),
        ("4x100G RoCE", 400),
        ("800 Gbps/node", 800),
        ("400Gbps/GPU RDMA (CX-7)", 3200),
        ("8x200Gbps HDR IB/node (not on this page)", 1600),
        ("4x OmniPath (400Gbps/node nominal)", 400),
        ("25GbE", 25),
        ("2x HDR", 400),
        ("EDR InfiniBand", 100),
        ("12.5 GB/s per GPU", 800),
        ("3.2 Tbps", 3200),
    ],
)
def test_bandwidths_of_a_node_of_eight(text: str, gigabits: float) -> None:
    assert bytes_per_second(text, 8) == pytest.approx(gigabits / 8 * 1e9)


def test_words_without_a_figure_mean_the_usual_link() -> None:
    assert bytes_per_second("PCIe", 8) is None
    cluster, _ = cluster_of("A100-80GB", 8, 8, "PCIe", "", [])
    assert cluster.nodes[0].link.kind == "pcie"
    assert cluster.nodes[0].link.bandwidth_Bps < 32e9


def test_mixtures_fill_whole_nodes_in_order() -> None:
    cluster, _ = cluster_of("V100/T4 mix", 16, 4, "", "50 Gbps", [])
    assert [node.device.name for node in cluster.nodes] == ["V100-32G", "V100-32G", "T4", "T4"]
    assert cluster.inter.bandwidth_Bps == pytest.approx(6.25e9)
    assert not cluster.homogeneous


def test_the_last_node_may_be_part_full() -> None:
    cluster, _ = cluster_of("H100", 12, 8, "", "", [])
    assert [node.devices for node in cluster.nodes] == [8, 4]


@pytest.mark.parametrize(
    ("devices", "per_node", "sizes"),
    [(8, None, [8]), (256, 4, [64] * 4), (72, 4, [8] * 9), (12, 4, [4] * 3), (4, None, [4])],
)
def test_nvlink_may_join_hosts(devices: int, per_node: int | None, sizes: list[int]) -> None:
    """GB200 NVL72: as many hosts of four as double up to 72; their links to the outside add up."""
    cluster, _ = cluster_of("GB200", devices, per_node, "", "", [])
    assert [node.devices for node in cluster.nodes] == sizes
    one, _ = cluster_of("GB200", 12, 4, "", "", [])
    assert cluster.inter.bandwidth_Bps == one.inter.bandwidth_Bps * sizes[0] / 4
    apart, _ = cluster_of("H100", 256, 8, "", "", [])
    assert [node.devices for node in apart.nodes] == [8] * 32


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("AWS p4d.24xlarge", "A100-SXM-40G"),
        ("p4de.24xlarge", "A100-80G"),
        ("p3.16xlarge", "V100-16G"),
        ("p3dn.24xlarge", "V100-32G"),
        ("p5.48xlarge (H100)", "H100-80G"),
        ("g4dn.12xlarge", "T4"),
        ("a2-highgpu-8g", "A100-SXM-40G"),
        ("DGX-2", "V100-32G"),
        ("Selene (A100-80GB)", "A100-80G"),
        ("T4 (AWS g4dn.12xlarge x4)", "T4"),
    ],
)
def test_machines_stand_for_their_devices(written: str, kind: str) -> None:
    assert cluster_of(written, 8, 8, "", "", [])[1][0].device.name == kind
