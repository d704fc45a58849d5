"""Names, parametrized families, and what is refused."""

import subprocess
import sys

import pytest

import uniap_zoo
from uniap_core.errors import BadValue, UniapError, UnknownName


def test_the_names_of_the_issue_are_there():
    wanted = "bert-huge t5-large vit-huge swin-huge llama-7b llama-13b llama2-70b llama3-8b llama3-70b llama3-405b"
    assert set(wanted.split()) | {"gpt3-175b", "gpt2", "mixtral-8x7b"} <= set(uniap_zoo.names())


@pytest.mark.parametrize("name", uniap_zoo.names())
def test_a_summary_is_one_line_with_family_and_source(name):
    line = uniap_zoo.summary(name)
    assert line.startswith(uniap_zoo.build(name).family)
    assert "\n" not in line
    assert line.endswith(")")


def test_a_family_with_parameters():
    graph = uniap_zoo.build("gpt:layers=24,hidden=2048,heads=16,seq=2048")
    assert graph.sequence == 2048
    assert len(graph.layers) == 26
    assert graph.source == "zoo:gpt:layers=24,hidden=2048,heads=16,seq=2048"
    assert graph.layers == uniap_zoo.build("gpt3-1.3b").layers


def test_all_parameters_have_a_spelling():
    graph = uniap_zoo.build(
        "llama:layers=2,hidden=64,heads=4,kv_heads=2,ffn=96,vocab=128,seq=32,tied=true,kernels=fused"
    )
    assert graph.architecture["tied"] is True
    assert graph.architecture["kernels"] == "fused"
    assert graph.layers[-1].own_parameters == 64
    assert uniap_zoo.build("swin:depths=2/2,width=32,heads=2/4,image=56").architecture["depths"] == "2/2"


def test_the_sequence_can_be_chosen():
    assert uniap_zoo.build("llama-7b", 4096).sequence == 4096
    assert uniap_zoo.build("bert-huge", 128).parameters == uniap_zoo.build("bert-huge").parameters
    assert uniap_zoo.build("gpt2", 512).parameters == uniap_zoo.build("gpt2").parameters


@pytest.mark.parametrize(
    "name, error, words",
    [
        ("llama-8b", UnknownName, "did you mean 'llama3-8b'"),
        ("nonsense", UnknownName, "known: bert-huge"),
        ("gptx:layers=2", UnknownName, "known: bert, t5"),
        ("gpt:layers=2,width=64,heads=4", UnknownName, "no parameter 'width'"),
        ("gpt:layers=2", BadValue, "hidden, heads not given"),
        ("gpt:layers=two,hidden=64,heads=4", BadValue, "not a whole number"),
        ("gpt:layers=2,layers=3,hidden=64,heads=4", BadValue, "given twice"),
        ("gpt:layers=0,hidden=64,heads=4", BadValue, "layers is 0"),
        ("gpt:layers=2,hidden=65,heads=4", BadValue, "heads 4 does not divide hidden 65"),
        ("gpt:layers=2,hidden=64,heads=4,kernels=magic", BadValue, "eager, fused"),
        ("llama:layers=2,hidden=64,heads=4,kv_heads=3,ffn=64", BadValue, "kv_heads 3 does not divide"),
        ("llama:layers=2,hidden=64,heads=4,ffn=64,tied=perhaps", BadValue, "true or false"),
        ("mixtral:layers=2,hidden=64,heads=4,ffn=64,experts=2,top_k=3", BadValue, "top_k 3 of 2 experts"),
        ("swin:depths=2/2,width=32,heads=2", BadValue, "2 depths and 1 heads"),
        ("swin:depths=2/2,width=32,heads=2/4,image=224,window=9", BadValue, "window 9 does not divide"),
        ("swin:depths=a,width=32,heads=2", BadValue, "2/2/6/2"),
        ("vit:layers=2,hidden=64,heads=4,image=225", BadValue, "patch 16 does not divide image 225"),
    ],
)
def test_nonsense_is_refused_with_a_remedy(name, error, words):
    with pytest.raises(error) as caught:
        uniap_zoo.build(name)
    assert words in str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize("name, sequence", [("gpt2", 2048), ("bert-huge", 513), ("vit-huge", 5), ("llama-7b", 0)])
def test_sequences_that_a_model_cannot_take(name, sequence):
    with pytest.raises(UniapError) as caught:
        uniap_zoo.build(name, sequence)
    assert name in caught.value.cause


def test_building_loads_neither_torch_nor_numpy():
    code = (
        "import sys, uniap_zoo; [uniap_zoo.build(n) for n in uniap_zoo.names()];"
        "print([m for m in ('torch', 'numpy', 'numba', 'transformers') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
