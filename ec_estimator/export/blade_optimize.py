"""Optimizes the model of this folder with Blade: python optimize.py

Needs PAI-Blade for TensorFlow, of Alibaba Cloud. Models that were trained quantized are
quantized, level o2; all others are optimized without loss, o1.
"""
import argparse
import json
import os
import sys

import numpy as np
import tensorflow.compat.v1 as tf

HERE = os.path.dirname(os.path.abspath(__file__))


def read_json(name):
    with open(os.path.join(HERE, name), encoding="utf-8") as file:
        return json.load(file)


def read_batches(name, inputs):
    """[{tensor name: array}] of single examples, or of the batch that is served."""
    shapes = {port["tensor"]: port["shape"] for port in inputs.values()}
    with np.load(os.path.join(HERE, name)) as file:
        arrays = {tensor: file[tensor] for tensor in file.files}
    sizes = {len(array) for array in arrays.values()}
    if set(arrays) != set(shapes) or len(sizes) != 1 or not min(sizes):
        raise ValueError(f"{name} does not hold examples of {', '.join(shapes)}")
    batch = max((shape or [None])[0] or 1 for shape in shapes.values())
    return [
        {tensor: array[start : start + batch] for tensor, array in arrays.items()}
        for start in range(0, min(sizes), batch)
    ]


def read_graph(inputs, outputs):
    graph = tf.GraphDef()
    with open(os.path.join(HERE, "frozen.pb"), "rb") as file:
        graph.ParseFromString(file.read())
    missing = {*inputs, *outputs} - {node.name for node in graph.node}
    if missing:
        raise ValueError(f"frozen.pb has no node {min(missing)!r}, which io.json names")
    return graph


def optimize(device):
    import blade

    ends = read_json("io.json")
    inputs, outputs = (
        [port["tensor"].split(":")[0] for port in ends[side].values()]
        for side in ("inputs", "outputs")
    )
    level = "o2" if read_json("scales.json")["scales"] else "o1"
    print(f"Optimizing frozen.pb for {device}, level {level}")
    optimized, _, report = blade.optimize(
        read_graph(inputs, outputs),
        level,
        device,
        inputs=inputs,
        outputs=outputs,
        test_data=read_batches("test_data.npz", ends["inputs"]),
        calib_data=read_batches("calib_data.npz", ends["inputs"]),
    )
    print(report)
    with open(os.path.join(HERE, "optimized.pb"), "wb") as file:
        file.write(optimized.SerializeToString())
    print("Wrote optimized.pb")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("gpu", "cpu", "edge"), default="gpu")
    device = parser.parse_args().device
    try:
        optimize(device)
    except Exception as error:
        sys.exit(f"optimize.py: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
