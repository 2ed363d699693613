"""Seconds of each run of an .mnn file, in a process without TensorFlow."""
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np

WARM_UP = 5  # runs


def measure(folder, inputs, runs, threads):
    """Seconds of each of `runs` runs, after a warm-up, in float32 where it is float.

    Args:
      folder: what ec_estimator.export.mnn_format.MnnFormat wrote.
      inputs: {input key: array}, of all inputs.
      runs, threads: numbers.
    """
    with tempfile.TemporaryDirectory() as place:
        np.savez(os.path.join(place, "inputs.npz"), **inputs)
        command = [sys.executable, os.path.abspath(__file__), os.path.abspath(folder)]
        # It is told apart from what MNN prints.
        subprocess.check_output([*command, str(runs), str(threads)], cwd=place)
        with open(os.path.join(place, "seconds.json")) as file:
            return json.load(file)


def main(folder, runs, threads):
    from MNN import expr, nn

    with open(os.path.join(folder, "ports.json")) as file:
        ports = json.load(file)
    module = nn.load_module_from_file(
        os.path.join(folder, "model.mnn"),
        list(ports["inputs"].values()),
        list(ports["outputs"].values()),
        shape_mutable=False,
        precision_mode=expr.PrecisionMode.High,
        thread_num=int(threads),
    )
    with np.load("inputs.npz") as arrays:
        given = [(arrays[key].shape, arrays[key]) for key in ports["inputs"]]
    variables = [expr.placeholder(s, expr.NHWC, expr.float) for s, _ in given]
    seconds = []
    for _ in range(WARM_UP + int(runs)):
        start = time.perf_counter()
        for variable, (_, array) in zip(variables, given):
            variable.write(array)
        # An answer is computed when it is read.
        for answer in module.forward(variables):
            answer.read()
        seconds.append(time.perf_counter() - start)
    with open("seconds.json", "w") as file:
        json.dump(seconds[WARM_UP:], file)


if __name__ == "__main__":
    main(*sys.argv[1:])
