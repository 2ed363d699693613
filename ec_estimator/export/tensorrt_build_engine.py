"""Builds a TensorRT engine of this folder's ONNX file: python build_engine.py

Needs tensorrt_rtx, which builds for any GPU of its list without one, or tensorrt, which
builds for the GPU that is there. Integers are where the file has its QuantizeLinear and
DequantizeLinear; no calibrator, no dynamic ranges.
"""
import argparse
import glob
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def import_tensorrt():
    try:
        import tensorrt_rtx as trt
    except ImportError:
        try:
            import tensorrt as trt
        except ImportError:
            raise ValueError(
                "no TensorRT here; pip install tensorrt-rtx-cu13"
            ) from None
    return trt


def listener(trt):
    """A logger that prints and keeps what TensorRT warns of."""

    class Listener(trt.ILogger):
        def __init__(self):
            trt.ILogger.__init__(self)
            self.warnings = []

        def log(self, severity, message):
            if severity <= trt.ILogger.WARNING:
                print(f"TensorRT: {message}", file=sys.stderr)
                self.warnings.append(message)

    return Listener()


def parse(trt, builder, logger, path):
    # Newer versions know batches of no other kind, and lack the flag.
    explicit = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    network = builder.create_network(0 if explicit is None else 1 << int(explicit))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(path):
        errors = [parser.get_error(i).desc() for i in range(parser.num_errors)]
        raise ValueError(f"{path} cannot be read: {'; '.join(errors)}")
    return network


def refuse_misread(logger, path):
    misread = [text for text in logger.warnings if "QuantizeLinear" in text]
    if misread:
        raise ValueError(f"{path}: its integers would be others: {misread[0]}")


def capability(trt, version):
    known = getattr(trt, "ComputeCapability", None)
    names = [name for name in dir(known) if name.startswith("SM")]
    name = "SM" + version.replace(".", "")
    if name not in names:
        raise ValueError(
            f"--compute_capability={version}: this TensorRT builds for "
            f"{', '.join(names) or 'the GPU that is there only'}"
        )
    return getattr(known, name)


def configure(trt, builder, network, args):
    config = builder.create_builder_config()
    # tensorrt_rtx takes the file at its word.
    if hasattr(trt.BuilderFlag, "INT8"):
        config.set_flag(trt.BuilderFlag.INT8)
    if args.compute_capability:
        config.num_compute_capabilities = 1
        config.set_compute_capability(capability(trt, args.compute_capability), 0)
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    if any(-1 in tuple(tensor.shape) for tensor in inputs):
        profile = builder.create_optimization_profile()
        for tensor in inputs:
            first, *rest = tensor.shape
            if -1 in rest:
                raise ValueError(
                    f"input {tensor.name!r} has unknown sizes beside the batch, "
                    f"{tuple(tensor.shape)}; export a model that has them fixed"
                )
            sizes = (1, args.batch, args.batch) if first == -1 else (first,) * 3
            profile.set_shape(tensor.name, *((size, *rest) for size in sizes))
        config.add_optimization_profile(profile)
    return config


def build(args):
    files = [args.onnx] if args.onnx else glob.glob(os.path.join(HERE, "*.onnx"))
    if len(files) != 1 or not os.path.isfile(files[0]):
        raise ValueError(f"--onnx: want one ONNX file, found {files}")
    trt = import_tensorrt()
    print(f"Building {args.output} of {files[0]} with {trt.__name__} {trt.__version__}")
    logger = listener(trt)
    builder = trt.Builder(logger)
    network = parse(trt, builder, logger, files[0])
    refuse_misread(logger, files[0])
    config = configure(trt, builder, network, args)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise ValueError(f"TensorRT built no engine: {logger.warnings[-1]}")
    refuse_misread(logger, files[0])
    temporary = args.output + ".part"
    with open(temporary, "wb") as file:
        file.write(engine)
    os.replace(temporary, args.output)
    print(f"Wrote {os.path.getsize(args.output)} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--onnx", help="by default the one beside this script")
    add("--output", default=os.path.join(HERE, "model.engine"))
    add("--compute_capability", help="of the GPU it will run on, e.g. 8.9")
    add("--batch", type=int, default=1, help="largest one, where the file has none")
    args = parser.parse_args()
    try:
        build(args)
    except (OSError, ValueError) as error:
        sys.exit(f"build_engine.py: {error}")


if __name__ == "__main__":
    main()
