"""The private names of TensorFlow that tell what Savers and their hooks were given."""


def saver_variables(saver):
    """What a built Saver saves, as it was given: a list or a dict; None: everything."""
    return saver._var_list


def saver_options(saver):
    """The constructor arguments that a Saver was made with."""
    names = (
        *("reshape", "sharded", "max_to_keep", "keep_checkpoint_every_n_hours"),
        *("restore_sequentially", "pad_step_number", "save_relative_paths"),
        "filename",
    )
    return {name: getattr(saver, f"_{name}") for name in names}


def add_listener(saver_hook, listener):
    """Has a CheckpointSaverHook, before it begins, call another listener; first, so
    that the others find what this one has prepared."""
    saver_hook._listeners = [listener, *saver_hook._listeners]
