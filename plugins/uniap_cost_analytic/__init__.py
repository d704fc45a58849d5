"""The analytic cost model: rooflines, alpha-beta collectives and byte counts, no measurement needed."""

from uniap_core.api import CostModelPlugin

COST_MODEL = CostModelPlugin(
    name="analytic",
    summary="roofline compute, alpha-beta collectives, exact byte counts; calibrated per device generation",
    version="4",
    constants="uniap_cost_analytic.constants:digest",
    price="uniap_cost_analytic.pricing:price",
    calibrate="uniap_cost_analytic.calibrate:calibration",
    by_ends=True,
)
