"""Runs an engine; a script for a Python that may have neither TensorFlow nor us.

engines.py starts it as `python engine_worker.py FOLDER`. The folder holds request.json
and inputs.npz; answer.json and, of a run, outputs.npz are written into it. Arrays have
their names in the JSON files: a member of an .npz cannot have every name. What cannot
be done ends the process, its reason in the last line of stderr.
"""
import json
import os
import sys
import time

import numpy as np

WARM_UP = 5  # runs: allocations, caches and the clock frequency have settled then
# ONNX Runtime's names of types, where they are not NumPy's.
NUMPY_NAMES = {"float": "float32", "double": "float64"}


def load_onnxruntime(path, threads):
    """{input name: name of its type} and a function {name: array} -> {name: array}."""
    # From 1.29 on it reports every session to its maker, and keeps an identifier of the
    # machine in ~/.cache; read when it is imported.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        path, options, providers=["CPUExecutionProvider"]
    )
    types = {x.name: x.type[len("tensor(") : -1] for x in session.get_inputs()}
    outputs = [y.name for y in session.get_outputs()]
    return (
        {name: NUMPY_NAMES.get(kind, kind) for name, kind in types.items()},
        lambda inputs: dict(zip(outputs, session.run(outputs, inputs))),
    )


def load_openvino(path, threads):
    """The same as load_onnxruntime."""
    import onnx
    import openvino

    # OpenVINO knows a tensor by all the names that it had before Identity ops were
    # removed; the file says which are the inputs' and outputs'.
    graph = onnx.load(path, load_external_data=False).graph
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        # On a CPU with bfloat16 the default computes float32 models in that.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core = openvino.Core()
    model = core.compile_model(core.read_model(path), "CPU", settings)
    constants = {x.name for x in graph.initializer}
    inputs = [x.name for x in graph.input if x.name not in constants]
    types = {x: model.input(x).get_element_type().to_dtype().name for x in inputs}

    def run(inputs):
        results = model(inputs)
        return {y.name: results[i] for i, y in enumerate(graph.output)}

    return types, run


LOADERS = {"onnxruntime": load_onnxruntime, "openvino": load_openvino}


def load(request, folder):
    """The function that runs the engine, and batches of its inputs, checked.

    Types are compared here, since OpenVINO converts without a word.
    """
    takes, run = LOADERS[request["engine"]](request["path"], request["threads"])
    names = request["inputs"]
    if sorted(takes) != sorted(names):
        given, wanted = (", ".join(sorted(x)) or "none" for x in (names, takes))
        sys.exit(f"the inputs are {wanted}, not {given}")
    arrays = iter(read_arrays(os.path.join(folder, "inputs.npz")))
    batches = [{name: next(arrays) for name in names} for _ in range(request["count"])]
    for name, array in (item for batch in batches for item in batch.items()):
        kind = "string" if array.dtype.kind == "U" else array.dtype.name
        if kind != takes[name]:
            sys.exit(f"input {name!r} is {takes[name]}, not {kind}")
    return run, batches


def read_arrays(path):
    """What np.savez(path, *arrays) wrote, in that order."""
    with np.load(path) as members:
        return [members[f"arr_{i}"] for i in range(len(members.files))]


def run(request, folder):
    """The names of the outputs; outputs.npz gets their arrays, batch after batch."""
    run_engine, batches = load(request, folder)
    answers = [run_engine(batch) for batch in batches]
    arrays = [y for outputs in answers for y in outputs.values()]
    # Strings come as objects, which only pickle could store.
    arrays = [y.astype(str) if y.dtype.hasobject else y for y in arrays]
    np.savez(os.path.join(folder, "outputs.npz"), *arrays)
    return {"outputs": list(answers[0])}


def measure(request, folder):
    """Seconds of each run of the first batch."""
    run_engine, (inputs, *_) = load(request, folder)
    for _ in range(WARM_UP):
        run_engine(inputs)
    seconds = []
    for _ in range(request["runs"]):
        start = time.perf_counter()
        run_engine(inputs)
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds}


ACTIONS = {"run": run, "measure": measure}


def main(folder):
    with open(os.path.join(folder, "request.json"), encoding="utf-8") as file:
        request = json.load(file)
    try:
        answer = ACTIONS[request["action"]](request, folder)
    except ImportError:
        raise
    except Exception as error:  # engines have classes of their own
        sys.exit(f"{type(error).__name__}: {' '.join(str(error).split())}")
    with open(os.path.join(folder, "answer.json"), "w", encoding="utf-8") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main(sys.argv[1])
