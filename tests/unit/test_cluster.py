"""Clusters: presets, files, refusals."""

from __future__ import annotations

import msgspec
import pytest

import uniap
from uniap_core import artifact, cluster
from uniap_core.errors import BadFile, BadValue, UnknownName
from uniap_core.kind_tables import EXAMPLE

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
    with pytest.raises(BadFile, match=r"> 0.*inter_GBps"):
        cluster.from_toml(TOML.replace("12.5", "-1.0"))


def test_a_node_of_joined_hosts_has_the_links_of_all_of_them():
    hosts, joined = cluster.load("16x4xGB200"), cluster.load("1x64xGB200")
    assert joined.inter.bandwidth_Bps == 16 * hosts.inter.bandwidth_Bps
    assert cluster.load("2x16xH100-80G").inter == cluster.load("4x8xH100-80G").inter


# --- kinds of one's own, and nodes of several kinds ----------------------------------------------------------------

LIKE = """
name = "pros"
[[kinds]]
name = "RTXPRO6000"
like = "RTX5090"
memory_gib = 95.0
peak_tflops = { bf16 = 500.0, fp32 = 125.0 }
[[nodes]]
kind = "rtxpro6000"
devices = 8
"""

WHOLE = """
name = "spark"
[[kinds]]
name = "GB10"
generation = "blackwell"
memory_gib = 119.0
memory_GBps = 273.0
peak_tflops = { bf16 = 62.0 }
sms = 48
link = { kind = "pcie", GBps = 25.0 }
inter = { kind = "ethernet", GBps = 12.5, latency_us = 9.0 }
[[nodes]]
kind = "GB10"
devices = 1
count = 2
"""

BOX = """
name = "box"
[[nodes]]
devices = [{ kind = "A100-80G", count = 1 }, { kind = "RTX4090", count = 3 }]
"""


def test_a_kind_like_another_has_its_other_figures():
    device, known = cluster.from_toml(LIKE).nodes[0].device, cluster.kinds()["RTX5090"].device
    assert (device.name, device.memory_bytes) == ("RTXPRO6000", 95 * 2**30)
    assert device.peak_flops == {"bf16": 500e12, "fp32": 125e12}
    assert (device.memory_Bps, device.sms, device.generation) == (known.memory_Bps, known.sms, known.generation)
    assert "RTX5090" in device.source


def test_a_whole_kind():
    found = cluster.from_toml(WHOLE)
    device = found.nodes[0].device
    assert (found.devices, len(found.nodes)) == (2, 2)
    assert (device.memory_Bps, device.sms, device.peak("bf16")) == (273e9, 48, 62e12)
    link, inter = found.nodes[0].link, found.inter
    assert (link.kind, link.bandwidth_Bps, inter.kind, inter.bandwidth_Bps) == ("pcie", 25e9, "ethernet", 12.5e9)
    assert (link.latency_s, inter.latency_s) == pytest.approx((10e-6, 9e-6))
    assert "GB10" not in cluster.kinds()


def test_a_kind_may_be_like_one_before_it():
    second = '[[kinds]]\nname = "GB10-big"\nlike = "gb10"\nmemory_gib = 250\n[[nodes]]'
    found = cluster.from_toml(WHOLE.replace("[[nodes]]", second, 1).replace('kind = "GB10"', 'kind = "GB10-big"'))
    assert found.nodes[0].device.memory_bytes == 250 * 2**30
    assert found.nodes[0].device.memory_Bps == 273e9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (WHOLE.replace("sms = 48", "smz = 48"), r"unknown field `smz`.*kinds\[0\]"),
        (WHOLE.replace("bf16 = 62.0", "bf17 = 62.0"), r"bf17.*peak_tflops"),
        (WHOLE.replace('"pcie"', '"string"'), r"string.*kinds\[0\]\.link"),
        (WHOLE.replace("memory_gib = 119.0\n", "").replace('generation = "blackwell"\n', ""), "memory_gib, generation"),
        (WHOLE.replace("273.0", "-1"), r"> 0.*kinds\[0\]\.memory_GBps"),
        (WHOLE.replace("273.0", "nan"), r"kinds\[0\]\.memory_GBps"),
        (WHOLE.replace("62.0", "inf"), r"kinds\[0\]\.peak_tflops"),
        (WHOLE.replace("{ bf16 = 62.0 }", "{}"), "no peak_tflops"),
        (WHOLE.replace("sms = 48", "matmul_ceiling = 1.2"), r"<= 1.*matmul_ceiling"),
        (WHOLE.replace("latency_us = 9.0", "latency_us = -9.0"), r">= 0.*inter\.latency_us"),
        (WHOLE.replace('"blackwell"', '"balckwell"'), "generation 'balckwell'"),
        (WHOLE.replace('"GB10"', '"h100-80g"'), "'h100-80g' is known already"),
        (WHOLE.replace('"GB10"', '"two words"'), "'two words' is no name"),
    ],
)
def test_bad_kinds_say_what_is_wrong(text, message):
    with pytest.raises(BadFile, match=message):
        cluster.from_toml(text)


def test_a_kind_like_none_says_which_are_near():
    with pytest.raises(UnknownName, match="RTX5091") as caught:
        cluster.from_toml(LIKE.replace("RTX5090", "RTX5091"))
    assert "RTX5090" in caught.value.fix


@pytest.mark.parametrize("name", ["8xA100", "2x8xa100", "8xRTX"])
def test_an_ambiguous_kind_says_which_it_may_be(name):
    with pytest.raises(UnknownName, match="may be") as caught:
        cluster.load(name)
    meant = {"A100-40G", "A100-80G"} if "RTX" not in name else {"RTX3090", "RTX4090"}
    assert all(kind in caught.value.cause for kind in meant)
    assert "H100" not in caught.value.cause


def test_the_example_of_a_kind_reads():
    assert cluster.from_toml(f'name = "example"\n{EXAMPLE}').device(1).name == "GB10"


def test_a_node_of_several_kinds():
    box, kinds = cluster.from_toml(BOX), cluster.kinds()
    a100, other = kinds["A100-80G"], kinds["RTX4090"]
    assert (box.devices, len(box.nodes), box.node_size) == (4, 1, 4)
    assert box.device_of == (a100.device, *[other.device] * 3)
    assert box.device_kinds == (a100.device, other.device)
    assert not box.homogeneous
    assert box.nodes[0].link == other.link  # PCIe, not the NVSwitch that one device has elsewhere
    assert box.devices_among(range(1)) == (a100.device,)
    assert box.devices_among(range(1, 2)) == (other.device,)
    assert box.devices_among(range(2)) == (a100.device, other.device)
    grown = box.nodes[0].with_devices(lambda device: msgspec.structs.replace(device, sms=1))
    assert [(bank.device.sms, bank.devices) for bank in grown.banks] == [(1, 1), (1, 3)]


def test_equal_nodes_of_several_kinds_are_not_homogeneous():
    pair = cluster.from_toml(BOX.replace("[[nodes]]", "[[nodes]]\ncount = 2"))
    assert pair.nodes[0] == pair.nodes[1]
    assert not pair.homogeneous


def test_a_node_of_several_kinds_is_a_document(tmp_path):
    box = cluster.from_toml(BOX)
    artifact.write(tmp_path / "box.json", box)
    assert cluster.load(str(tmp_path / "box.json")) == box


def test_nodes_of_one_kind_are_written_as_they_always_were():
    assert b"others" not in artifact.encode(cluster.from_toml(TOML))


@pytest.mark.parametrize(
    "nodes",
    [
        'kind = "A100-80G"\ndevices = [{ kind = "A100-80G" }]',
        "devices = 4",
        "devices = []",
        'devices = [{ kind = "A100-80G", count = 0 }, { kind = "RTX4090" }]',
    ],
)
def test_nodes_say_each_kind_once(nodes):
    with pytest.raises((BadValue, BadFile)):
        cluster.from_toml(f'name = "x"\n[[nodes]]\n{nodes}')


def test_banks_add_up_to_the_devices():
    node, more = cluster.load("1x2xA100-80G").nodes[0], cluster.kinds()["RTX4090"].device
    with pytest.raises(BadValue, match="counts"):
        cluster.Cluster(
            name="x",
            nodes=(msgspec.structs.replace(node, others=(cluster.Bank(more, 2),)),),
            inter=cluster.load("1x2xA100-80G").inter,
        )


def test_unequal_nodes_are_joined_by_the_slowest_of_their_networks():
    kinds = '[[nodes]]\nkind = "{}"\ndevices = 1\n[[nodes]]\nkind = "{}"\ndevices = 1'
    orders = [
        cluster.from_toml(f'name = "x"\n{kinds.format(*pair)}') for pair in (("H100-80G", "T4"), ("T4", "H100-80G"))
    ]
    assert {c.inter for c in orders} == {cluster.kinds()["T4"].inter}


def test_nodes_in_another_order():
    lab = cluster.from_toml(TOML)
    turned = lab.reordered((2, 0, 1))
    assert turned.nodes == (lab.nodes[2], lab.nodes[0], lab.nodes[1])
    assert turned.name == "lab (nodes 2,0,1)"
    assert lab.reordered((1, 0, 2)) == lab  # its first two are alike
    for order in ((0, 1), (0, 0, 1), (0, 1, 3)):
        with pytest.raises(BadValue, match="each of the 3 nodes"):
            lab.reordered(order)


@pytest.mark.parametrize(
    ("name", "joined"), [("18x4xGB300", 18), ("64x4xGB300", 16), ("36x4xGB200", 18), ("19x4xGB300", 1), ("8x8xB200", 1)]
)
def test_nvlink_joins_hosts_where_it_reaches_beyond_them(name, joined):
    """As many as it reaches and all divide by; tensor parallelism and the host keep the size of a node."""
    found = cluster.load(name)
    assert (found.nvlink_nodes or 1) == joined
    assert {node.devices for node in found.fabric.nodes} == {joined * found.nodes[0].devices}
    assert found.fabric.devices == found.devices
    assert found.fabric.inter.bandwidth_Bps == joined * found.inter.bandwidth_Bps
    assert found.node_size == found.nodes[0].devices
    assert found.fabric.fabric is found.fabric


def test_a_file_says_how_many_nodes_nvlink_joins(tmp_path):
    text = 'name = "rack"\n{}\n[[nodes]]\nkind = "GB300"\ndevices = 4\ncount = 20\n'
    found = {said: cluster.from_toml(text.format(said)) for said in ("", "nvlink_nodes = 18", "nvlink_nodes = 1")}
    assert [c.nvlink_nodes or 1 for c in found.values()] == [10, 18, 1]
    assert [node.devices for node in found["nvlink_nodes = 18"].fabric.nodes] == [72, 8]
    assert "nvlink_nodes" not in msgspec.json.decode(artifact.encode(found["nvlink_nodes = 1"]))
    assert msgspec.json.decode(artifact.encode(found[""]), type=cluster.Cluster) == found[""]
    mixed = text + '[[nodes]]\nkind = "B200"\ndevices = 8\n'
    with pytest.raises(BadValue, match="unlike"):
        cluster.from_toml(mixed.format("nvlink_nodes = 2"))


def test_groups_inside_a_domain_are_as_fast_as_inside_a_node():
    """Hosts that NVLink joins price as one node of all their devices, and faster than without it."""
    apart = msgspec.structs.replace(cluster.load("2x4xGB300"), nvlink_nodes=msgspec.UNSET)
    times = [
        uniap.plan(
            "llama:layers=2,hidden=4096,heads=32,ffn=14336,vocab=32000,seq=2048",
            machine,
            16,
            pins=("pp=1", "tp=1", "c=1", "sharding=zero3", "recompute=none", "replicate=1"),
        ).plan.predicted.iteration_time_s
        for machine in ("8xGB300", "2x4xGB300", apart)
    ]
    assert times[0] == times[1] < times[2]
