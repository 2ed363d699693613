"""Whether MNN's converter made of each quantized layer what it was told.

It leaves a layer in float without a word where it does not know it by its name, and the
first layer that names a tensor decides its integers.
"""
import numpy as np

from ec_estimator.export.format import ExportError
from ec_estimator.export.mnn_file import Integers, read_layers
from ec_estimator.export.mnn_params import winograd_units


def check_layers(planned, path):
    """Compares a file's layers with what was planned.

    Args:
      planned: one tuple a layer, of its mnn_params.LayerParams under each name that the
        converter may know it by.
      path: of the .mnn file.

    Raises:
      ExportError: a layer is in float, or computes with other integers.
    """
    written = read_layers(path)
    faults = []
    for names in planned:
        found = [params for params in names if params.output.name in written]
        fault = (
            _fault(found[-1], written[found[-1].output.name])
            if found
            else "is no layer"
        )
        if fault:
            faults.append(f"{names[0].weights.name!r} {fault}")
    if faults:
        raise ExportError(
            "mnn: the converter did not keep what was trained of the layers with "
            f"kernels {'; '.join(faults)}; add them to QuantizerConfig.exclude_scopes"
        )


def _fault(params, layer):
    """What of a layer is not as planned, "" if nothing is."""
    if layer.steps is None:
        return "is in float"
    if not np.array_equal(layer.steps, params.weights.scales):
        return "has other steps of its kernel"
    for kind, rounded, found in (
        ("reads", params.input, layer.input),
        ("puts out", params.output, layer.output),
    ):
        if found is None:
            return f"{kind} floats"
        # The file has them in float32.
        planned = Integers(
            *map(np.float32, (rounded.scale, rounded.zero_point)),
            *map(np.float32, (rounded.low, rounded.high)),
        )
        if planned != found:
            return f"{kind} other integers: {found} instead of {planned}"
    units = winograd_units(params.winograd) if params.winograd else []
    if not np.array_equal(layer.winograd, units):
        return "is no Winograd convolution" if units else "is a Winograd convolution"
    return ""
