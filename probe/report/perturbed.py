"""What every method loses where test clips have a fault of the image."""

from __future__ import annotations

from echofm.report.blocks import Block, Table
from probe.report.canvas import in_words
from probe.report.results import method_name, shown, verdict
from probe.result import ProbeResult


def perturbed_table(result: ProbeResult) -> list[Block]:
    """The first metric, by clip, of every fault and method; nothing where none was laid over them."""
    if not result.perturbed:
        return []
    metric = result.perturbed[0].metric
    some = [each for each in result.perturbed if each.metric == metric and each.level == "clip"]
    return [
        Table(
            columns=("fault of the image", "method", in_words(metric), "minus clean clips", "which is"),
            rows=[
                (
                    each.perturbation,
                    method_name(each.method),
                    shown(each.estimate),
                    shown(each.change),
                    verdict(metric, each.change),
                )
                for each in some
            ],
            caption="Test clips with a fault of the image of a strength from 0 to 1, by what was fitted and chosen on "
            "clean clips. Differences: the same method's, patients redrawn together.",
        )
    ]
