"""The profiled cost model: measured layers and collectives, the analytic model where nothing was measured."""

from uniap_core.api import CostModelPlugin

COST_MODEL = CostModelPlugin(
    name="profiled",
    summary="measured times of layers and collectives; analytic, with a note, for what was not measured",
    version="4",
    # What was not measured is priced by the analytic model.
    constants="uniap_cost_analytic.constants:digest",
    price="uniap_cost_profiled.pricing:price",
    needs_profile=True,
    by_ends=True,
)
