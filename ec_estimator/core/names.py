"""The names that ops get in a tf.Graph."""


def name_in_graph(graph, name):
    """What an op or a variable is called that is made here and now with this name."""
    # Such a name is taken as it is, as tf.name_scope does.
    if name.endswith("/"):
        return name[:-1]
    return graph.unique_name(name, mark_as_used=False)
