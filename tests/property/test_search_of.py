"""Whatever is asked for, the plan that comes of it leads back to a search that prices the same tables."""

from __future__ import annotations

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from uniap_core.errors import BadValue, Infeasible, UsageError
from uniap_core.plan import from_file, to_file
from uniap_core.posing import digest
from uniap_core.search import Search, candidates, make, sweep, tables_of

MODELS = {
    None: "gpt:layers=2,hidden=64,heads=4,vocab=128,seq=32",
    "megatron": "gpt:layers=2,hidden=64,heads=4,vocab=128,seq=32",
    "torchtitan": "llama:layers=2,hidden=64,heads=4,kv_heads=2,ffn=128,vocab=128,seq=32",
}
PINS = (
    "pp=2",
    "pp=1",
    "tp<=2",
    "tp=2",
    "c>=2",
    "c=1",
    "sharding!=zero3",
    "layers.0:recompute=full",
    "head:sharding=none",
    "uniform",
    "max_strategies=2",
)


@settings(max_examples=20)
@given(
    st.sampled_from(sorted(MODELS, key=str)),
    st.lists(st.sampled_from(PINS), max_size=3, unique=True),
    st.sampled_from(["1f1b", "gpipe"]),
    st.sampled_from(["4xA100-80G", "2x2xV100-32G", "2xA100-80G"]),
)
def test_a_plan_leads_back_to_its_prices(executor, pins, schedule, cluster):
    try:
        asked = make(MODELS[executor], cluster, 4, schedule=schedule, executor=executor, pins=pins)
        found = sweep(asked).plan
    except (UsageError, BadValue, Infeasible):
        assume(False)
    for plan in (found, from_file(to_file(found))):
        search = Search.of(plan)
        assert digest(tables_of(plan)) == plan.hashes.tables
        assert set(search.regimes) >= {r for r in asked.regimes if r.texts == plan.regime}
        assert (search.space, search.pins, candidates(search)) == (asked.space, asked.pins, candidates(asked))
