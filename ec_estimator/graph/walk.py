"""Which ops feed which."""


def ancestors(tensors):
    """The ops that the tensors are computed from, along data edges only."""
    seen = set()
    stack = [tensor.op for tensor in tensors]
    while stack:
        op = stack.pop()
        if op not in seen:
            seen.add(op)
            stack.extend(tensor.op for tensor in op.inputs)
    return seen


def descendants(ops):
    """The ops that read, at any remove, what these ops put out."""
    seen = set()
    stack = list(ops)
    while stack:
        op = stack.pop()
        if op not in seen:
            seen.add(op)
            stack.extend(
                reader for tensor in op.outputs for reader in tensor.consumers()
            )
    return seen
