"""What Savers were given, by TensorFlow's private names; what comes before a save."""
import functools


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


def before_saves(saver, prepare):
    """Has each `save` of a Saver, whoever calls it, call `prepare(session)` first.

    Listeners would do for the CheckpointSaverHooks that one knows; this is for all.

    Args:
      saver: tf.train.Saver; other Savers, and its class, stay as they are.
      prepare: called with the session that `save` is given, in the same thread.

    Returns:
      Function that undoes it, and may be called again.
    """
    save, is_own = saver.save, "save" in vars(saver)

    @functools.wraps(save)
    def prepared(sess, *args, **kwargs):
        prepare(sess)
        return save(sess, *args, **kwargs)

    def undo():
        # Not what someone else has put there since.
        if vars(saver).get("save") is prepared:
            del saver.save
            if is_own:
                saver.save = save

    saver.save = prepared
    return undo
