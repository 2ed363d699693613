"""The tables of what engines make of exported models, from the benchmark's results."""
import json
from pathlib import Path

from docs.tables import table

RESULTS = (
    Path(__file__).resolve().parents[1] / "tests/benchmarks/results/engine_latency.json"
)
NETS = {
    "resnet50": "ResNet-50, 224 x 224",
    "resnet20": "ResNet-20, 32 x 32",
    "mobile_net": "MobileNet-style, 64 x 64",
    "dense": "dense, 3 x 2048",
}
ENGINES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "mnn": "MNN"}
FORMATS = {
    "onnxruntime": "`onnx_onnxruntime`",
    "openvino": "`onnx_openvino`",
    "mnn": "`mnn`",
}
FORMS = {
    "float": "float",
    "int8": "int8, fused",
    "int8_signed": "int8, signed",
    "pruned_int8": "pruned, int8, fused",
    "int8_winograd": "int8, Winograd",
    "sparse": "70 % sparse",
    "ort_static": "int8 by ONNX Runtime's quantizer",
    "ort_static_unsigned": "the same, uint8 activations",
}


def milliseconds():
    """A row for each network and engine, a column for each form."""
    found = _read()
    rows = []
    for net, title in NETS.items():
        for engine, name in ENGINES.items():
            cells = {form: found.get((net, form, engine)) for form in _forms(found)}
            if any(cells.values()):
                rows.append([title, name, *map(_short, cells.values())])
                title = ""
    return table(["", "", *(FORMS[form] for form in _forms(found))], rows)


def speeds():
    """How many times as fast as the engine's own float, over the networks: a row for
    each engine's format."""
    found = _read()
    forms = [form for form in _forms(found) if form != "float"]
    rows = []
    for engine, name in FORMATS.items():
        ratios = [
            [
                found[net, "float", engine] / found[net, form, engine]
                for net in NETS
                if {(net, "float", engine), (net, form, engine)} <= set(found)
            ]
            for form in forms
        ]
        if any(ratios):
            rows.append([name, *map(_range, ratios)])
    return table(["", *(FORMS[form] for form in forms)], rows)


def _read():
    """{(network, form, engine): milliseconds}."""
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    return {(row["net"], row["form"], row["engine"]): row["ms"] for row in rows}


def _forms(found):
    """Those that were measured, in the order of FORMS."""
    measured = {form for _, form, _ in found}
    return [form for form in FORMS if form in measured]


def _short(number):
    return "" if number is None else f"{number:.3g}"


def _range(ratios):
    return (
        " to ".join(dict.fromkeys(f"{x:.2g}" for x in (min(ratios), max(ratios))))
        if ratios
        else ""
    )
